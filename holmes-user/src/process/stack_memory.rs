//! The memory of threads' stacks, read while they sleep.
//!
//! Must not: wait for a page. One that is not in memory cannot be read here: the process may decide when it
//! comes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use holmes_common::limits::{MAX_USER_FRAMES, PAGE_BYTES};
use holmes_common::walk::Memory;

use super::pagemap::present_from;

/// Pages read at a time: of native programs' stacks, nine of ten are smaller.
const PIECE_PAGES: usize = 4;

/// Pieces read for one thread: a frame needs a new one or two at the most, its own and what it points to.
const MAX_PIECES: usize = 2 * MAX_USER_FRAMES;

/// The memory of a process, a piece of which is at hand.
#[derive(Debug)]
pub struct StackMemory {
    memory: File,
    pages: File,
    /// The address of the first byte of `bytes`.
    start: u64,
    bytes: Vec<u8>,
    /// Pieces that may still be read.
    left: usize,
}

impl StackMemory {
    /// That of a process. `None` if it cannot be read: it has ended, or this process may not.
    pub fn open(proc_root: &Path, tgid: u32) -> Option<Self> {
        let process = proc_root.join(tgid.to_string());
        let open = |name: &str| File::open(process.join(name)).ok();
        let (memory, pages) = (open("mem")?, open("pagemap")?);
        Some(Self { memory, pages, start: 0, bytes: Vec::new(), left: 0 })
    }

    /// Another thread's turn: what was read before may be old.
    pub fn next_thread(&mut self) {
        self.bytes.clear();
        self.left = MAX_PIECES;
    }

    /// The bytes from an address on, of the piece at hand.
    fn at_hand(&self, address: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }

    /// Reads the piece that an address lies in.
    fn read(&mut self, address: u64) {
        self.bytes.clear();
        self.left = self.left.saturating_sub(1);
        self.start = address / PAGE_BYTES * PAGE_BYTES;
        let pages = present_from::<PIECE_PAGES>(&self.pages, self.start);
        self.bytes.resize(pages * PAGE_BYTES as usize, 0);
        if self.memory.read_exact_at(&mut self.bytes, self.start).is_err() {
            self.bytes.clear();
        }
    }
}

impl Memory for StackMemory {
    fn words<const WORDS: usize>(&mut self, address: u64) -> Option<[u64; WORDS]> {
        let length = WORDS * size_of::<u64>();
        if self.at_hand(address, length).is_none() {
            if self.left == 0 {
                return None;
            }
            self.read(address);
        }
        let (words, _) = self.at_hand(address, length)?.as_chunks();
        let mut found = [0; WORDS];
        for (word, bytes) in found.iter_mut().zip(words) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> StackMemory {
        let mut memory = StackMemory::open(Path::new("/proc"), std::process::id()).unwrap();
        memory.next_thread();
        memory
    }

    #[test]
    fn words_of_this_process_wherever_they_lie() {
        let words: Vec<u64> = (1..10_000).collect();
        let address = std::hint::black_box(&words).as_ptr() as u64;
        let mut memory = own();
        for at in [0_usize, 511, 9_990, 5_000, 3] {
            let found = memory.words::<2>(address + 8 * at as u64);
            assert_eq!(found, Some([at as u64 + 1, at as u64 + 2]), "at {at}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_read_nor_without_end() {
        let mut memory = own();
        assert_eq!(memory.word(8), None);
        assert_eq!(memory.word(u64::MAX - 3), None);
        let word = 7_u64;
        let address = &raw const word as u64;
        assert_eq!(memory.word(address), Some(7));
        for _ in 0..MAX_PIECES {
            assert_eq!(memory.word(8), None);
        }
        assert_eq!(memory.word(address), None, "one thread has its share");
        memory.next_thread();
        assert_eq!(memory.word(address), Some(7));
        assert!(StackMemory::open(Path::new("/proc"), u32::MAX).is_none());
    }
}
