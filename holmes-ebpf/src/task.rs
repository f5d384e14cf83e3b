//! What the kernel keeps of tasks: words of its structs, at offsets that user space has read from the
//! running kernel's types.
//!
//! There are two ways to a word. What is reached from the current task's own `task_struct` can be read
//! by a plain load where the kernel has `bpf_get_current_task_btf`: the verifier knows the type of
//! everything on the way, and an address that cannot be read reads as zero. Everything else, and
//! everything on older kernels, goes through a helper, which costs ten times as much.

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_probe_read_kernel, generated::bpf_get_current_task_btf,
};
use holmes_common::globals::NO_OFFSET;

use crate::globals::{PLAIN_LOADS, offset};

/// The current task's `task_struct`: where [`follow`] may begin.
#[inline(always)]
pub fn current() -> u64 {
    if PLAIN_LOADS.load() != 0 {
        // SAFETY: no argument, always allowed in a tracing program.
        unsafe { bpf_get_current_task_btf() as u64 }
    } else {
        // SAFETY: as above.
        unsafe { bpf_get_current_task() }
    }
}

/// Reads the word at `offset` of the struct at `base`; 0 if either is unknown or unreadable.
#[inline(always)]
pub fn read(base: u64, offset: u32) -> u64 {
    if base == 0 || offset == NO_OFFSET {
        return 0;
    }
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const u64) }.unwrap_or(0)
}

/// The same, of a struct that was reached from [`current`] by calls of this function alone: for another
/// one the verifier refuses the program.
#[inline(always)]
pub fn follow(base: u64, offset: u32) -> u64 {
    if PLAIN_LOADS.load() == 0 {
        return read(base, offset);
    }
    if base == 0 || offset == NO_OFFSET {
        return 0;
    }
    // SAFETY: the verifier has checked that the struct has a field of this size there. Volatile, so that the
    // compiler makes one load of this size of it and nothing else.
    unsafe { ((base + u64::from(offset)) as *const u64).read_volatile() }
}

/// The same for a field of four bytes.
#[inline(always)]
pub fn follow_half(base: u64, offset: u32) -> u32 {
    if PLAIN_LOADS.load() == 0 {
        // In the word that it begins: both processors have the low half first.
        return read(base, offset) as u32;
    }
    if base == 0 || offset == NO_OFFSET {
        return 0;
    }
    // SAFETY: as above.
    unsafe { ((base + u64::from(offset)) as *const u32).read_volatile() }
}

/// An id of a task, which need not be the current one; 0 where the kernel's layout is not known.
#[inline(always)]
pub fn id_at(task: u64, offset: u32) -> u32 {
    read(task, offset) as u32
}

/// The current task's `mm`, which [`follow`] may go on from: `Some(0)` for a kernel thread, `None` where
/// the layout is not known.
#[inline(always)]
pub fn current_mm() -> Option<u64> {
    let offset = offset!(task_mm);
    (offset != NO_OFFSET).then(|| follow(current(), offset))
}
