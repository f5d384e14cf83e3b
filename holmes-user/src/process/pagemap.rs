//! Which pages of a process are in memory, and of what kind: `/proc/PID/pagemap`.
//!
//! Format: <https://docs.kernel.org/admin-guide/mm/pagemap.html>: a word of 64 bits for each page of
//! the address space. Kernels from 6.7 on also say of a page whether it is huge, or one of zeroes
//! (`PAGEMAP_SCAN`). The one of zeroes is known by its frame, too, which is the same for all.
//!
//! Must not: keep more files open than a constant allows, or tell page frames to anybody.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use holmes_common::limits::{HUGE_PAGES, PAGE_SHIFT};

use crate::collect::Memory;

/// Files kept open, of the processes asked about last: opening one costs ten times as much as reading
/// an entry.
const MAX_OPEN: usize = 64;

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;

/// Entries read at a time where pages lie close to each other.
const RUN: usize = 512;

/// The page is in memory.
const PRESENT: u64 = 1 << 63;

/// Its frame. All zero for who must not know it.
const FRAME: u64 = (1 << 55) - 1;

/// It is a file's, or of shared memory.
const FILE_OR_SHARED: u64 = 1 << 61;

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)`, and its `PAGE_IS_PFNZERO` and `PAGE_IS_HUGE`
/// (`include/uapi/linux/fs.h`).
const SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;
const SCAN_ZEROES: u64 = 1 << 5;
const SCAN_HUGE: u64 = 1 << 6;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    wanted: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The page maps of the processes asked about last.
#[derive(Debug)]
pub(super) struct Pagemaps {
    proc_root: PathBuf,
    /// The one asked about longest ago first.
    open: VecDeque<(u32, File)>,
    /// Pages that the kernel's count of a process's pages may be behind: what it counts on each CPU
    /// before it adds that up, `max(32, 2 * CPUs)` (lib/percpu_counter.c).
    uncounted: u64,
    /// The frame of the page of zeroes, if it may be known.
    zeroes: Option<u64>,
}

impl Pagemaps {
    pub(super) fn new(proc_root: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let uncounted = cpus * (2 * cpus).max(32);
        let zeroes = page_of_zeroes();
        Self { proc_root: proc_root.to_owned(), open: VecDeque::new(), uncounted, zeroes }
    }

    /// What kind of memory is at an address; unknown if it is no longer there. `None` if there is none:
    /// who only reads what nobody has written to is shown a page of zeroes that all share.
    pub(super) fn memory(&mut self, tgid: u32, address: u64) -> Option<Memory> {
        let zeroes = self.zeroes;
        let Some(file) = self.file(tgid) else { return Some(Memory::Unknown) };
        match present(file, address) {
            None => Some(Memory::Unknown),
            Some(entry) if entry & FILE_OR_SHARED != 0 => Some(Memory::File),
            Some(entry) if zeroes == Some(entry & FRAME) => None,
            // A huge page of zeroes is another one.
            _ if scanned(file, address).is_some_and(|it| it & SCAN_ZEROES != 0) => None,
            _ => Some(Memory::Anonymous),
        }
    }

    /// Whether an address is in a huge page; or may have been, if it is no longer there.
    pub(super) fn may_be_huge(&mut self, tgid: u32, address: u64) -> bool {
        let Some(file) = self.file(tgid) else { return true };
        if present(file, address).is_none() {
            return true;
        }
        if let Some(categories) = scanned(file, address) {
            return categories & SCAN_HUGE != 0 && categories & SCAN_ZEROES == 0;
        }
        // Older kernels: all its pages are there.
        let mut entries = vec![0; (HUGE_PAGES * ENTRY_BYTES) as usize];
        let first = (address >> PAGE_SHIFT) / HUGE_PAGES * HUGE_PAGES;
        let read = file.read_exact_at(&mut entries, first * ENTRY_BYTES).is_ok();
        let present =
            |entry: &[u8; ENTRY_BYTES as usize]| u64::from_ne_bytes(*entry) & PRESENT != 0;
        read && entries.as_chunks().0.iter().all(present)
    }

    /// Those of a process's pages, by address in order, that are not in memory. `None` if it cannot be
    /// asked: it has ended.
    pub(super) fn absent(&mut self, tgid: u32, addresses: &[u64]) -> Option<Vec<u64>> {
        let file = self.file(tgid)?;
        let mut absent = Vec::new();
        let mut entries = vec![0; RUN * ENTRY_BYTES as usize];
        let mut rest = addresses;
        while let Some(&first) = rest.first() {
            let number = first >> PAGE_SHIFT;
            let near = |address: &u64| (address >> PAGE_SHIFT).wrapping_sub(number) < RUN as u64;
            let (run, behind) = rest.split_at(rest.iter().take_while(|at| near(at)).count().max(1));
            rest = behind;
            let last = run.last().map_or(number, |last| last >> PAGE_SHIFT);
            let wanted = ((last.wrapping_sub(number) + 1) * ENTRY_BYTES) as usize;
            let read = file.read_at(entries.get_mut(..wanted)?, number * ENTRY_BYTES);
            let read = read.ok().filter(|read| *read > 0);
            let Some(read) = read else {
                // The address space is gone, as it is of a process that ends or that has executed
                // another program: what was read before says nothing either.
                self.forget(tgid);
                return None;
            };
            for address in run {
                let at = ((address >> PAGE_SHIFT) - number) * ENTRY_BYTES;
                let entry = entries.get(at as usize..read).and_then(|rest| rest.first_chunk());
                if entry.is_none_or(|entry| u64::from_ne_bytes(*entry) & PRESENT == 0) {
                    absent.push(*address);
                }
            }
        }
        Some(absent)
    }

    /// Bytes resident: anonymous ones, and those of files and of shared memory (`statm`, in proc(5)).
    /// `None` if there are none. The kernel may be behind by what each CPU has counted for itself: so much
    /// is added.
    pub(super) fn resident(&self, tgid: u32) -> Option<[u64; 2]> {
        let statm = self.proc_root.join(tgid.to_string()).join("statm");
        let text = std::fs::read_to_string(statm).ok()?;
        let mut pages = text.split(' ').skip(1).map(|word| word.parse::<u64>().ok());
        let (all, of_files) = (pages.next()??, pages.next()??);
        let own = all.saturating_sub(of_files);
        let bytes = |pages: u64| pages.saturating_add(self.uncounted) << PAGE_SHIFT;
        (all > 0).then_some([bytes(own), bytes(of_files)])
    }

    /// The process has another address space now, or none.
    pub(super) fn forget(&mut self, tgid: u32) {
        self.open.retain(|(known, _)| *known != tgid);
    }

    fn file(&mut self, tgid: u32) -> Option<&File> {
        let known = self.open.iter().position(|(known, _)| *known == tgid);
        let file = match known.and_then(|at| self.open.remove(at)) {
            Some((_, file)) => file,
            None => File::open(self.proc_root.join(tgid.to_string()).join("pagemap")).ok()?,
        };
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((tgid, file));
        self.open.back().map(|(_, file)| file)
    }
}

/// The entry of the page at an address; `None` if the page is not in memory, or nobody knows.
pub(super) fn present(pagemap: &File, address: u64) -> Option<u64> {
    let mut entry = [0; ENTRY_BYTES as usize];
    pagemap.read_exact_at(&mut entry, (address >> PAGE_SHIFT) * ENTRY_BYTES).ok()?;
    Some(u64::from_ne_bytes(entry)).filter(|entry| entry & PRESENT != 0)
}

/// How many pages, of so many from an address on, are in memory before the first that is not.
pub(super) fn present_from<const PAGES: usize>(pagemap: &File, address: u64) -> usize {
    let mut entries = [[0; ENTRY_BYTES as usize]; PAGES];
    let at = (address >> PAGE_SHIFT) * ENTRY_BYTES;
    // The last pages of an address space have fewer behind them.
    let read = pagemap.read_at(entries.as_flattened_mut(), at).unwrap_or(0);
    let entries = entries.iter().take(read / ENTRY_BYTES as usize);
    entries.take_while(|entry| u64::from_ne_bytes(**entry) & PRESENT != 0).count()
}

/// The frame of the page that the kernel shows to whoever reads memory that nobody has written to; `None`
/// if this process must not know it, or cannot find out.
fn page_of_zeroes() -> Option<u64> {
    let bytes = 1 << PAGE_SHIFT;
    // SAFETY: a new anonymous mapping, unmapped below and not used after that.
    let page = unsafe {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, private, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: inside the mapping, which can be read. Volatile: it is read so that the page is there.
    let _ = unsafe { page.cast::<u8>().read_volatile() };
    let entry = File::open("/proc/self/pagemap").ok().and_then(|file| present(&file, page as u64));
    // SAFETY: the mapping from above; nobody uses it after this. It cannot fail for a mapping that is there.
    unsafe { libc::munmap(page, bytes) };
    entry.map(|entry| entry & FRAME).filter(|frame| *frame != 0)
}

/// What `PAGEMAP_SCAN` says of the page at an address; `None` where the kernel has no such call, or no
/// page is there.
fn scanned(file: &File, address: u64) -> Option<u64> {
    let start = address >> PAGE_SHIFT << PAGE_SHIFT;
    let mut region = Region::default();
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        start,
        end: start.checked_add(1 << PAGE_SHIFT)?,
        regions: (&raw mut region) as u64,
        regions_len: 1,
        wanted: SCAN_ZEROES | SCAN_HUGE,
        // Nothing is asked of a page but that it is one of these: a region is all that there is room
        // for.
        ..Scan::default()
    };
    // SAFETY: the kernel reads and writes `scan`, and writes at most one region; both live through the
    // call.
    let found = unsafe { libc::ioctl(file.as_raw_fd(), SCAN, &raw mut scan) };
    // A page that is in no category asked for makes no region.
    (found >= 0).then_some(if found == 0 { 0 } else { region.categories })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that was touched is there; one that was only mapped is not, and one that was given back
    /// is not any more.
    #[test]
    fn the_pages_of_this_process() {
        const PAGES: usize = 1500;
        let bytes = PAGES << PAGE_SHIFT;
        // SAFETY: a new anonymous mapping, unmapped below and not used after that.
        let start = unsafe {
            let (read_write, private) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), bytes, read_write, private, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let address = |page: usize| start as u64 + ((page as u64) << PAGE_SHIFT);
        let touched = [0, 1, 700, PAGES - 1];
        for page in touched {
            // SAFETY: inside the mapping.
            unsafe { (address(page) as *mut u8).write_volatile(1) };
        }
        let mut maps = Pagemaps::new(Path::new("/proc"));
        let own = std::process::id();
        assert_eq!(maps.memory(own, address(700)), Some(Memory::Anonymous));
        assert_eq!(maps.memory(own, address(699)), Some(Memory::Unknown));
        assert!(!maps.may_be_huge(own, address(700)));
        // SAFETY: inside the mapping.
        assert_eq!(unsafe { (address(699) as *const u8).read_volatile() }, 0);
        let zeroes = maps.memory(own, address(699));
        // Kernels before 6.7 tell nobody who must not know frames.
        let may_know = maps.zeroes.is_some();
        assert!(zeroes.is_none() || !may_know && zeroes == Some(Memory::Anonymous), "{zeroes:?}");
        let asked: Vec<u64> = [0, 1, 2, 700, 701, PAGES - 1].map(address).into();
        assert_eq!(maps.absent(own, &asked), Some([2, 701].map(address).into()));
        // SAFETY: the mapping from above.
        assert_eq!(unsafe { libc::madvise(start, 4096, libc::MADV_DONTNEED) }, 0);
        assert_eq!(maps.absent(own, &asked[..1]), Some(vec![address(0)]));
        // SAFETY: the mapping from above; nobody uses it after this.
        assert_eq!(unsafe { libc::munmap(start, bytes) }, 0);
        assert_eq!(maps.absent(own, &[]), Some(Vec::new()));
        assert_eq!(maps.absent(u32::MAX, &asked), None, "no such process");
    }
}
