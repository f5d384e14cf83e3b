//! The stacks of the current task.
//!
//! A user stack is walked with the tables that user space compiled (`holmes_common::unwind`), a few
//! frames in each program, because the verifier does not accept more in one:
//!
//! ```text
//! probe ──> step ──> step ──> ... ──> finish ──> ring buffer
//! ```
//!
//! The arrows are tail calls: nothing returns. A tail call cannot lead to a program of another type,
//! so each type of probe has a [`Chain`] of its own, and scratch memory that no other type uses.
//!
//! - [`registers`]: where the process was when it was interrupted;
//! - [`table`]: which row holds for an address;
//! - `rules`: from a frame and its row to the caller (`holmes_common::walk`), by architecture;
//! - [`stack_window`]: the memory that the rules read;
//! - [`walk`]: frame after frame;
//! - [`chains`]: the programs;
//! - [`copy`]: the memory that a walk reads, for those who want to walk it again.
//!
//! Kernel stacks are the kernel's own business, see [`kernel_stack`].

pub mod chains;
pub mod copy;
pub mod registers;
#[cfg_attr(bpf_target_arch = "aarch64", path = "unwind/rules_aarch64.rs")]
#[cfg_attr(not(bpf_target_arch = "aarch64"), path = "unwind/rules_x86_64.rs")]
mod rules;
mod stack_window;
mod table;
pub mod walk;

use aya_ebpf::{
    bindings::BPF_F_USER_STACK, cty::c_void, helpers::generated::bpf_get_stack, maps::ProgramArray,
};
use holmes_common::{counter::Stream, limits::MAX_KERNEL_FRAMES};

use crate::maps::Slot;

/// The programs that walk the stacks of one type of probe.
#[derive(Clone, Copy)]
pub struct Chain {
    /// Where they find each other, at [`STEP`] and [`FINISH`].
    pub programs: &'static ProgramArray,
    /// Where the record is put together.
    pub slot: Slot,
    /// What the records count as.
    pub stream: Stream,
}

/// Index in [`Chain::programs`] of the program that walks a few frames.
pub const STEP: u32 = 0;

/// Index in [`Chain::programs`] of the program that sends the record.
pub const FINISH: u32 = 1;

/// Length of [`Chain::programs`].
pub const CHAIN_LEN: u32 = 2;

/// Bytes asked of the kernel for one stack.
pub const STACK_BYTES: u32 = (MAX_KERNEL_FRAMES * size_of::<u64>()) as u32;

/// What became of a walk by the kernel.
#[derive(Clone, Copy)]
pub struct Walked {
    /// Frames written, at most `MAX_KERNEL_FRAMES`.
    pub frames: usize,
    /// The kernel could not walk the stack.
    pub failed: bool,
}

impl Walked {
    /// The walk filled all the room there is: there are probably more frames.
    pub fn truncated(self) -> bool {
        self.frames == MAX_KERNEL_FRAMES
    }
}

/// Has the kernel walk the user stack into `frames`, by frame pointers.
///
/// # Safety
/// `frames` must have room for `MAX_KERNEL_FRAMES` addresses, and `ctx` be the program's context.
#[inline(always)]
pub unsafe fn frame_pointers(ctx: *mut c_void, frames: *mut u64) -> Walked {
    // SAFETY: by the caller's promise.
    unsafe { ask_kernel(ctx, frames, u64::from(BPF_F_USER_STACK)) }
}

/// Has the kernel walk its own stack into `frames`.
///
/// # Safety
/// As for [`frame_pointers`].
#[inline(always)]
pub unsafe fn kernel_stack(ctx: *mut c_void, frames: *mut u64) -> Walked {
    // SAFETY: by the caller's promise.
    unsafe { ask_kernel(ctx, frames, 0) }
}

#[inline(always)]
unsafe fn ask_kernel(ctx: *mut c_void, frames: *mut u64, flags: u64) -> Walked {
    // SAFETY: the caller made sure of the room; the verifier checks it again.
    let written = unsafe { bpf_get_stack(ctx, frames.cast(), STACK_BYTES, flags) };
    if written < 0 {
        return Walked { frames: 0, failed: true };
    }
    // The mask tells the verifier what the helper's contract already says.
    Walked { frames: (written as usize >> 3) & MAX_KERNEL_FRAMES, failed: false }
}

// A mask is a bound only where the limit is one less than a power of two.
const _: () = assert!((MAX_KERNEL_FRAMES + 1).is_power_of_two());
