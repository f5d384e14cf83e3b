//! The stacks of the current task.
//!
//! The user stack is walked by the kernel's own frame-pointer walker. This is the seam where an
//! unwinder with tables goes in: it has to fill `frames` with at most `MAX_FRAMES` addresses, leaf
//! first, and say how many, or that it failed.

use aya_ebpf::{bindings::BPF_F_USER_STACK, cty::c_void, helpers::generated::bpf_get_stack};
use holmes_common::limits::MAX_FRAMES;

/// Bytes asked of the kernel for one stack.
const STACK_BYTES: u32 = (MAX_FRAMES * size_of::<u64>()) as u32;

/// What became of a walk.
#[derive(Clone, Copy)]
pub struct Walked {
    /// Frames written, at most `MAX_FRAMES`.
    pub frames: usize,
    /// The kernel could not walk the stack.
    pub failed: bool,
}

impl Walked {
    /// The walk filled all the room there is: there are probably more frames.
    pub fn truncated(self) -> bool {
        self.frames == MAX_FRAMES
    }
}

/// Walks the user stack into `frames`.
///
/// # Safety
/// `frames` must have room for `MAX_FRAMES` addresses, and `ctx` be the program's context.
#[inline(always)]
pub unsafe fn user_stack(ctx: *mut c_void, frames: *mut u64) -> Walked {
    // SAFETY: by the caller's promise.
    unsafe { walk(ctx, frames, u64::from(BPF_F_USER_STACK)) }
}

/// Walks the kernel stack into `frames`.
///
/// # Safety
/// As for [`user_stack`].
#[inline(always)]
pub unsafe fn kernel_stack(ctx: *mut c_void, frames: *mut u64) -> Walked {
    // SAFETY: by the caller's promise.
    unsafe { walk(ctx, frames, 0) }
}

#[inline(always)]
unsafe fn walk(ctx: *mut c_void, frames: *mut u64, flags: u64) -> Walked {
    // SAFETY: the caller made sure of the room; the verifier checks it again.
    let written = unsafe { bpf_get_stack(ctx, frames.cast(), STACK_BYTES, flags) };
    if written < 0 {
        return Walked { frames: 0, failed: true };
    }
    // The mask tells the verifier what the helper's contract already says.
    Walked { frames: (written as usize >> 3) & MAX_FRAMES, failed: false }
}

// A mask is a bound only where the limit is one less than a power of two.
const _: () = assert!((MAX_FRAMES + 1).is_power_of_two());
