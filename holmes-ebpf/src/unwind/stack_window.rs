//! The memory of the process whose stack is walked, read a piece at a time.
//!
//! A call of the helper that reads it takes longer than all else that is done for a frame, and hardly longer for
//! a thousand bytes than for sixteen. A walk reads upwards, so it reads ahead. The thread cannot change its stack
//! meanwhile: it is the one that is interrupted here.
//!
//! Must not: keep anything from one walk to the next.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_probe_read_user};
use holmes_common::walk::Memory;

/// Bytes read ahead. Half of it makes a walk of 29 frames a tenth slower, twice as much a tenth faster; but each
/// thread that has scratch memory of its own has this in it.
const WINDOW: usize = 1024;

/// The unit in which memory can be missing.
const PAGE: u64 = 4096;

/// A piece of the stack.
#[repr(C)]
pub struct StackWindow {
    words: [u64; WINDOW / size_of::<u64>()],
    /// Address of the first byte.
    start: u64,
    /// Bytes that are known.
    pub bytes: u64,
}

/// The memory of the current process.
pub(super) struct Own<'a> {
    pub window: &'a mut StackWindow,
}

impl Memory for Own<'_> {
    #[inline(always)]
    fn words<const WORDS: usize>(&mut self, address: u64) -> Option<[u64; WORDS]> {
        let bytes = (WORDS * size_of::<u64>()) as u64;
        if !self.window.has(address, bytes) && !self.window.move_to(address, bytes) {
            return directly(address);
        }
        let first = (address.wrapping_sub(self.window.start) / size_of::<u64>() as u64) as usize;
        let mut words = [0; WORDS];
        for (number, word) in words.iter_mut().enumerate() {
            // The mask repeats what was checked, in a form that the verifier keeps.
            *word = self.window.words[(first + number) & (WINDOW / size_of::<u64>() - 1)];
        }
        Some(words)
    }
}

impl StackWindow {
    /// Whether these bytes are among those that are known, as whole words.
    #[inline(always)]
    fn has(&self, address: u64, bytes: u64) -> bool {
        let at = address.wrapping_sub(self.start);
        at < self.bytes && at + bytes <= self.bytes && at % size_of::<u64>() as u64 == 0
    }

    /// Reads from `address` on, up to the end of its page. Whether that has these bytes.
    #[inline(always)]
    fn move_to(&mut self, address: u64, bytes: u64) -> bool {
        let page = PAGE - (address & (PAGE - 1));
        let length = if page < WINDOW as u64 { page } else { WINDOW as u64 };
        if length < bytes {
            return false;
        }
        self.start = address;
        self.bytes = 0;
        // SAFETY: there is room for that many bytes; the helper fails on a bad address.
        let failed = unsafe {
            bpf_probe_read_user(
                self.words.as_mut_ptr().cast(),
                length as u32 & (2 * WINDOW as u32 - 1),
                address as *const c_void,
            )
        };
        if failed == 0 {
            self.bytes = length;
        }
        failed == 0
    }
}

/// Reads words that the window cannot have: they are in two pages.
#[inline(always)]
fn directly<const WORDS: usize>(address: u64) -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    let bytes = (WORDS * size_of::<u64>()) as u32;
    // SAFETY: the array has that many bytes; the helper fails on a bad address.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut words).cast(), bytes, address as *const c_void) };
    (failed == 0).then_some(words)
}

const _: () = assert!(WINDOW.is_power_of_two());
