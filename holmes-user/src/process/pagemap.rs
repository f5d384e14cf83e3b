//! Which pages of a process are in memory, and of what kind: `/proc/PID/pagemap`.
//!
//! Format: <https://docs.kernel.org/admin-guide/mm/pagemap.html>: a word of 64 bits for each page of
//! the address space.
//!
//! Must not: keep more files open than a constant allows, or ask for page frames.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::collect::Memory;

/// Files kept open, of the processes asked about last: opening one costs ten times as much as reading
/// an entry.
const MAX_OPEN: usize = 64;

/// Bits of an address within a page.
const PAGE_SHIFT: u32 = 12;

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;

/// Entries read at a time where pages lie close to each other.
const RUN: usize = 512;

/// The page is in memory.
const PRESENT: u64 = 1 << 63;

/// It is a file's, or of shared memory.
const FILE_OR_SHARED: u64 = 1 << 61;

/// The page maps of the processes asked about last.
#[derive(Debug)]
pub(super) struct Pagemaps {
    proc_root: PathBuf,
    /// The one asked about longest ago first.
    open: VecDeque<(u32, File)>,
}

impl Pagemaps {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { proc_root: proc_root.to_owned(), open: VecDeque::new() }
    }

    /// What kind of memory is at an address; unknown if it is no longer there.
    pub(super) fn memory(&mut self, tgid: u32, address: u64) -> Memory {
        let mut entry = [0; ENTRY_BYTES as usize];
        let read = self.file(tgid).is_some_and(|file| {
            file.read_exact_at(&mut entry, (address >> PAGE_SHIFT) * ENTRY_BYTES).is_ok()
        });
        match u64::from_ne_bytes(entry) {
            entry if !read || entry & PRESENT == 0 => Memory::Unknown,
            entry if entry & FILE_OR_SHARED != 0 => Memory::File,
            _ => Memory::Anonymous,
        }
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
            let read = file.read_at(entries.get_mut(..wanted)?, number * ENTRY_BYTES).ok()?;
            if read == 0 && absent.is_empty() && rest.len() + run.len() == addresses.len() {
                // The address space is gone, as it is of a process that ends.
                return None;
            }
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
        assert_eq!(maps.memory(own, address(700)), Memory::Anonymous);
        assert_eq!(maps.memory(own, address(699)), Memory::Unknown);
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
