//! From a frame and its row to the caller: the rules by which both sides walk user stacks, the probes that
//! of the thread that they run in, user space that of a thread that sleeps.
//!
//! Must not: look up rows, or count frames. Every function is inlined: the verifier sees one program.

pub mod aarch64;
pub mod x86_64;

use crate::unwind::WalkEnd;

/// Where a walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// Instruction pointer of the current frame.
    pub ip: u64,
    /// Stack pointer of the current frame.
    pub sp: u64,
    /// Frame pointer register of the current frame.
    pub bp: u64,
    /// Link register, on arm64 and only in the leaf.
    pub link: u64,
    /// `ip` is behind the instruction that is looked up: a call, or the entry into the kernel.
    pub behind: bool,
    /// The current frame was interrupted by a signal, and is not the leaf.
    pub interrupted: bool,
    /// `bp` is not the current frame's any more.
    pub bp_lost: bool,
    /// The current frame was found by frame pointer: if it is not code, they led nowhere.
    pub by_frame_pointer: bool,
}

/// What one frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The walk is at the caller.
    Caller,
    /// The walk has ended.
    End(WalkEnd),
}

/// The memory of the process whose stack it is.
pub trait Memory {
    /// Reads words that lie side by side; `None` where they cannot be read.
    fn words<const WORDS: usize>(&mut self, address: u64) -> Option<[u64; WORDS]>;

    /// Reads a word.
    #[inline(always)]
    fn word(&mut self, address: u64) -> Option<u64> {
        let [word] = self.words::<1>(address)?;
        Some(word)
    }
}
