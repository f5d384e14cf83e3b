//! An array map of the kernel, written through its memory instead of by system calls.
//!
//! Only the part that is written is mapped, and only while it is: the kernel gives a mapping all its
//! pages at once, so a lasting one would count the whole table as the recorder's memory a second
//! time.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use aya::maps::MapData;

/// Bytes of a page, the unit of mappings. 4 KiB on x86-64; a larger one only maps more than needed.
const PAGE: usize = 64 << 10;

/// A map of type array with `BPF_F_MMAPABLE`, whose elements are `T`.
pub(super) struct ArrayMemory<T> {
    map: MapData,
    len: u32,
    element: PhantomData<T>,
}

impl<T: Copy> ArrayMemory<T> {
    /// Takes the map over. `None` if its elements have another size.
    pub(super) fn new(map: MapData) -> Option<Self> {
        let info = map.info().ok()?;
        // The kernel rounds the distance between elements up to eight bytes.
        let fits = info.value_size() as usize == size_of::<T>() && size_of::<T>().is_multiple_of(8);
        fits.then(|| Self { len: info.max_entries(), map, element: PhantomData })
    }

    /// Elements.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Writes elements from `first` on; those behind the end are left out.
    pub(super) fn write(&self, first: u32, elements: &[T]) -> io::Result<()> {
        let room = self.len.saturating_sub(first) as usize;
        let elements = elements.get(..room).unwrap_or(elements);
        if elements.is_empty() {
            return Ok(());
        }
        let start = first as usize * size_of::<T>();
        let window = Window::open(self.fd(), start, start + size_of_val(elements), self.bytes())?;
        // SAFETY: the window covers these bytes, and T is plain data (the callers' types are
        // integers without padding). The probes read at the same time: see `UnwindMaps` for why
        // that is harmless.
        unsafe {
            ptr::copy_nonoverlapping(elements.as_ptr(), window.at(start).cast(), elements.len());
        }
        Ok(())
    }

    /// Reads an element; `None` behind the end.
    pub(super) fn read(&self, index: u32) -> Option<T> {
        if index >= self.len {
            return None;
        }
        let start = index as usize * size_of::<T>();
        let window = Window::open(self.fd(), start, start + size_of::<T>(), self.bytes()).ok()?;
        // SAFETY: the window covers these bytes; elements are aligned to their own size.
        Some(unsafe { ptr::read_volatile(window.at(start).cast()) })
    }

    /// Reads elements from `first` on; none if one of them is behind the end.
    pub(super) fn read_many(&self, first: u32, count: u32) -> Vec<T> {
        let (first, count) = (first as usize, count as usize);
        if count == 0 || first + count > self.len as usize {
            return Vec::new();
        }
        let (start, bytes) = (first * size_of::<T>(), count * size_of::<T>());
        let Ok(window) = Window::open(self.fd(), start, start + bytes, self.bytes()) else {
            return Vec::new();
        };
        let mut elements = Vec::with_capacity(count);
        // SAFETY: the window covers these bytes, `T` is plain data, and there is room for that many.
        unsafe {
            ptr::copy_nonoverlapping(window.at(start).cast(), elements.as_mut_ptr(), count);
            elements.set_len(count);
        }
        elements
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    fn bytes(&self) -> usize {
        self.len as usize * size_of::<T>()
    }
}

/// A part of an array's memory.
struct Window {
    memory: *mut libc::c_void,
    /// Offset in the array of its first byte.
    start: usize,
    len: usize,
}

impl Window {
    /// Maps the pages that hold `start..end` of an array of `bytes`.
    fn open(fd: BorrowedFd<'_>, start: usize, end: usize, bytes: usize) -> io::Result<Self> {
        // The kernel maps up to the end of the last page of its own size, and no further.
        // SAFETY: no pointer.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(PAGE);
        let start = start / page * page;
        let len = end.next_multiple_of(page).min(bytes.next_multiple_of(page)) - start;
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is a map's.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                start as libc::off_t,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { memory, start, len })
    }

    /// Where a byte of the array is.
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset >= self.start && offset - self.start < self.len);
        // SAFETY: the callers stay inside the window.
        unsafe { self.memory.cast::<u8>().add(offset - self.start) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length, and nobody keeps a pointer into it. It cannot
        // fail for a whole mapping.
        unsafe { libc::munmap(self.memory, self.len) };
    }
}
