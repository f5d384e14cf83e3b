//! The system call that the current thread is in, on x86-64.
//!
//! Numbers: arch/x86/entry/syscalls/syscall_64.tbl. Registers: System V ABI, AMD64 supplement, A.2.1.

use core::mem::offset_of;

use aya_ebpf::bindings::bpf_user_pt_regs_t;

use crate::{
    globals::offset,
    task::{self, follow, follow_half},
};

pub const MMAP: u64 = 9;
pub const MUNMAP: u64 = 11;
pub const BRK: u64 = 12;
pub const MREMAP: u64 = 25;
pub const MADVISE: u64 = 28;
pub const FUTEX: u64 = 202;

/// `TS_COMPAT` of `thread_info.status`: the task is in a 32-bit system call.
const COMPAT: u32 = 2;

/// The number of the call whose saved registers these are. `orig_rax` keeps it: `rax` has the result.
#[inline(always)]
pub fn number(regs: u64) -> u64 {
    follow(regs, offset_of!(bpf_user_pt_regs_t, orig_rax) as u32)
}

/// Whether it is a 32-bit call, which a 64-bit process can make, too.
#[inline(always)]
pub fn is_compat() -> bool {
    follow_half(task::current(), offset!(task_status)) & COMPAT != 0
}

/// The same of another thread.
#[inline(always)]
pub fn is_compat_of(task: u64) -> bool {
    task::read(task, offset!(task_status)) as u32 & COMPAT != 0
}

/// Its first four arguments. They stay in their registers' places until the call is over.
#[inline(always)]
pub fn arguments(regs: u64) -> Option<[u64; 4]> {
    let register = |offset: usize| follow(regs, offset as u32);
    Some([
        register(offset_of!(bpf_user_pt_regs_t, rdi)),
        register(offset_of!(bpf_user_pt_regs_t, rsi)),
        register(offset_of!(bpf_user_pt_regs_t, rdx)),
        register(offset_of!(bpf_user_pt_regs_t, r10)),
    ])
}
