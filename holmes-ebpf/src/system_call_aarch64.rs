//! The system call that the current thread is in, on arm64.
//!
//! Numbers: include/uapi/asm-generic/unistd.h. What the kernel saves: arch/arm64/include/asm/ptrace.h.

use core::mem::offset_of;

use aya_ebpf::bindings::bpf_user_pt_regs_t;

use crate::task::{follow, follow_half};

pub const MMAP: u64 = 222;
pub const MUNMAP: u64 = 215;
pub const BRK: u64 = 214;
pub const MREMAP: u64 = 216;
pub const MADVISE: u64 = 233;
pub const FUTEX: u64 = 98;

/// Where the kernel keeps the first argument, whose register has the result: behind the registers.
const FIRST_ARGUMENT: u32 = size_of::<bpf_user_pt_regs_t>() as u32;

/// Where it keeps the call's number, four bytes: behind that.
const NUMBER: u32 = FIRST_ARGUMENT + 8;

/// The number of the call whose saved registers these are.
#[inline(always)]
pub fn number(regs: u64) -> u64 {
    u64::from(follow_half(regs, NUMBER))
}

/// Whether it is a 32-bit call: those are told by their process, see [`arguments`].
#[inline(always)]
pub fn is_compat() -> bool {
    false
}

/// The same of another thread.
#[inline(always)]
pub fn is_compat_of(_task: u64) -> bool {
    false
}

/// Its first four arguments; `None` for 32-bit processes.
#[inline(always)]
pub fn arguments(regs: u64) -> Option<[u64; 4]> {
    /// The 32-bit state in the processor's.
    const STATE_32: u64 = 1 << 4;
    let state = follow(regs, offset_of!(bpf_user_pt_regs_t, pstate) as u32);
    let register = |number: usize| {
        let offset = offset_of!(bpf_user_pt_regs_t, regs) + number * size_of::<u64>();
        follow(regs, offset as u32)
    };
    (state & STATE_32 == 0)
        .then(|| [follow(regs, FIRST_ARGUMENT), register(1), register(2), register(3)])
}
