//! Where a process was when it was interrupted, or when it entered the kernel.

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_user_pt_regs_t, task_struct},
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    programs::{PerfEventContext, RetProbeContext},
};

use super::walk::Walk;
use crate::{
    globals::{HAS_TASK_PT_REGS, PLAIN_LOADS, offset},
    system_call,
    task::{self, read},
};

/// The registers that a walk begins with. Whole words: where a verifier allows no read of memory that nobody
/// has written, it must have no padding.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Registers {
    pub ip: u64,
    pub sp: u64,
    /// The frame pointer: rbp, x29.
    pub bp: u64,
    /// The return address of a leaf on arm64; 0 elsewhere.
    pub link: u64,
    /// Not 0 if `ip` is behind the instruction that entered the kernel: then it is looked up like a
    /// return address.
    pub in_call: u64,
}

impl Registers {
    const NONE: Self = Self { ip: 0, sp: 0, bp: 0, link: 0, in_call: 0 };
}

/// Whether it is known where a process was.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Where {
    Known,
    /// A 32-bit process: its tables and its registers are others.
    Compat,
    /// A kernel thread, or a process that is just being made or ended.
    Nowhere,
}

/// What is known of where a process was. Not an enum with the registers in it, for the reason that they are
/// whole words.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Found {
    pub at: Where,
    /// Where that is [`Where::Known`].
    pub registers: Registers,
}

impl Found {
    pub const NONE: Self = Self { at: Where::Nowhere, registers: Registers::NONE };
    const COMPAT: Self = Self { at: Where::Compat, registers: Registers::NONE };

    #[inline(always)]
    fn at(registers: Registers) -> Self {
        Self { at: Where::Known, registers }
    }
}

/// The registers of the process that a CPU was found executing, be it in user space or in the
/// kernel on its behalf.
#[inline(always)]
pub fn sampled(ctx: &PerfEventContext) -> Found {
    // SAFETY: the context is valid while the program runs, and the verifier checks each offset.
    let found = unsafe { arch::interrupted(&raw const (*ctx.ctx).regs) };
    found.unwrap_or_else(entered)
}

/// Whether the CPU was interrupted in user space.
#[inline(always)]
pub fn in_user_mode(ctx: &PerfEventContext) -> bool {
    // SAFETY: as in `sampled`.
    unsafe { arch::in_user_mode(&raw const (*ctx.ctx).regs) }
}

/// Keeps all registers of an interrupted process, for the rules that need more than the usual ones.
#[inline(always)]
pub fn keep(ctx: &PerfEventContext, walk: &mut Walk) {
    // SAFETY: as in `sampled`.
    walk.has_registers = unsafe { arch::keep(&raw const (*ctx.ctx).regs, &mut walk.registers) };
}

/// The registers of a process whose function has just returned: the walk begins in the call.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) -> Found {
    // SAFETY: as in `sampled`; a probe in user space has the registers of user space.
    let mut found = unsafe { arch::interrupted(ctx.as_ptr().cast()) }.unwrap_or(Found::NONE);
    // Not as behind a call: nothing was called from the leaf that is still there, and whoever names it
    // takes its address as it is.
    found.registers.ip = found.registers.ip.wrapping_sub(1);
    found
}

/// The stack pointer at a probe in user space.
#[inline(always)]
pub fn stack_pointer(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: as in `returned`.
    unsafe { arch::stack_pointer(ctx.as_ptr().cast()) }
}

/// What the stack pointer was when the function was entered that has just returned.
#[inline(always)]
pub fn stack_pointer_at_entry(ctx: &RetProbeContext) -> u64 {
    stack_pointer(ctx).wrapping_sub(arch::RETURN_BYTES)
}

/// The registers with which the current process entered the kernel.
#[inline(always)]
pub fn entered() -> Found {
    saved().map_or(Found::NONE, entered_at)
}

/// The registers of the process that the kernel has saved at an address.
#[inline(always)]
pub fn entered_at(address: u64) -> Found {
    // SAFETY: the helper checks the address itself and fails on a bad one.
    match unsafe { bpf_probe_read_kernel(address as *const bpf_user_pt_regs_t) } {
        Ok(regs) => arch::at_entry(&regs),
        Err(_) => Found::NONE,
    }
}

/// Where the kernel has saved them for a system call, of which a probe knows the address: as the verifier's
/// own kind of pointer where there is one, for `task::follow`; and it is all that is known without the
/// kernel's types.
#[inline(always)]
pub fn saved_for_call(address: u64) -> u64 {
    if PLAIN_LOADS.load() != 0 { saved().unwrap_or(0) } else { address }
}

/// Where the kernel has saved those of the system call that the current thread is in, for
/// `system_call`; `None` for a 32-bit one, whose numbers mean something else, and for a kernel thread.
#[inline(always)]
pub fn saved_in_call() -> Option<u64> {
    saved().filter(|_| !system_call::is_compat())
}

/// Where the kernel has saved them when the current task entered it. As the verifier's own kind of pointer where
/// there is one, for `task::follow`.
#[inline(always)]
pub fn saved() -> Option<u64> {
    if HAS_TASK_PT_REGS.load() != 0 {
        // SAFETY: no argument, always allowed in a tracing program.
        return saved_of(0, unsafe { bpf_get_current_task_btf() });
    }
    saved_of(task::current(), core::ptr::null_mut())
}

/// Where the kernel has saved those of a task, as `system_call` takes them: `known` is the task as the
/// verifier's own kind of pointer, for kernels that have the helper, `task` as a number, for others.
#[inline(always)]
pub fn saved_of(task: u64, known: *mut task_struct) -> Option<u64> {
    if HAS_TASK_PT_REGS.load() != 0 {
        // SAFETY: the helper takes what the verifier knows to be a task.
        return Some(unsafe { bpf_task_pt_regs(known) } as u64);
    }
    let stack = read(task, offset!(task_stack));
    (stack != 0).then(|| stack + arch::KERNEL_STACK_BYTES - size_of::<bpf_user_pt_regs_t>() as u64)
}

#[cfg(not(bpf_target_arch = "aarch64"))]
mod arch {
    use aya_ebpf::bindings::bpf_user_pt_regs_t;
    use holmes_common::unwind::LEAF_REGISTERS;

    use super::{Found, Registers};

    /// `THREAD_SIZE` of kernels before 5.15 without KASAN; the registers are at its very end.
    pub(super) const KERNEL_STACK_BYTES: u64 = 16 << 10;

    /// The privilege level: the code segment's lowest bits.
    const USER_MODE: u64 = 3;

    /// `__USER32_CS`.
    const CODE_32: u64 = 0x23;

    /// Bytes that a return takes off the stack.
    pub(super) const RETURN_BYTES: u64 = 8;

    /// The stack pointer.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn stack_pointer(regs: *const bpf_user_pt_regs_t) -> u64 {
        // SAFETY: by the caller's promise.
        unsafe { (*regs).rsp }
    }

    /// Whether the registers are of user space.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn in_user_mode(regs: *const bpf_user_pt_regs_t) -> bool {
        // SAFETY: by the caller's promise.
        unsafe { (*regs).cs & USER_MODE == USER_MODE }
    }

    /// The interrupted registers if they are the process's.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn interrupted(regs: *const bpf_user_pt_regs_t) -> Option<Found> {
        // SAFETY: by the caller's promise. Field by field: the verifier allows no copy of a context.
        if unsafe { !in_user_mode(regs) } {
            return None;
        }
        // SAFETY: as above.
        if unsafe { (*regs).cs } == CODE_32 {
            return Some(Found::COMPAT);
        }
        // SAFETY: as above.
        let (ip, sp, bp) = unsafe { ((*regs).rip, (*regs).rsp, (*regs).rbp) };
        Some(Found::at(Registers { ip, sp, bp, link: 0, in_call: 0 }))
    }

    /// Keeps them all; whether that was done.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn keep(
        regs: *const bpf_user_pt_regs_t,
        kept: &mut [u64; LEAF_REGISTERS],
    ) -> bool {
        // SAFETY: by the caller's promise. Field by field, as above; in the order of the System V
        // ABI, AMD64 supplement, figure 3.36.
        unsafe {
            if !in_user_mode(regs) {
                return false;
            }
            kept[0] = (*regs).rax;
            kept[1] = (*regs).rdx;
            kept[2] = (*regs).rcx;
            kept[3] = (*regs).rbx;
            kept[4] = (*regs).rsi;
            kept[5] = (*regs).rdi;
            kept[6] = (*regs).rbp;
            kept[7] = (*regs).rsp;
            kept[8] = (*regs).r8;
            kept[9] = (*regs).r9;
            kept[10] = (*regs).r10;
            kept[11] = (*regs).r11;
            kept[12] = (*regs).r12;
            kept[13] = (*regs).r13;
            kept[14] = (*regs).r14;
            kept[15] = (*regs).r15;
        }
        true
    }

    #[inline(always)]
    pub(super) fn at_entry(regs: &bpf_user_pt_regs_t) -> Found {
        if regs.cs & USER_MODE != USER_MODE {
            return Found::NONE;
        }
        if regs.cs == CODE_32 {
            return Found::COMPAT;
        }
        // The number of the system call; -1 where an interrupt or a fault entered the kernel.
        let in_call = u64::from((regs.orig_rax as i64) >= 0);
        Found::at(Registers { ip: regs.rip, sp: regs.rsp, bp: regs.rbp, link: 0, in_call })
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod arch {
    use aya_ebpf::bindings::bpf_user_pt_regs_t;
    use holmes_common::unwind::LEAF_REGISTERS;

    use super::{Found, Registers};

    /// `THREAD_SIZE` with pages of 4 KiB. Not the whole story on arm64, where the registers are
    /// followed by more: kernels before 5.15 are not supported there.
    pub(super) const KERNEL_STACK_BYTES: u64 = 16 << 10;

    /// Exception level (bits 2 and 3) and 32-bit state (bit 4) of the processor.
    const LEVEL: u64 = 0b1100;
    const STATE_32: u64 = 1 << 4;

    /// Bytes that a return takes off the stack.
    pub(super) const RETURN_BYTES: u64 = 0;

    /// The stack pointer.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn stack_pointer(regs: *const bpf_user_pt_regs_t) -> u64 {
        // SAFETY: by the caller's promise.
        unsafe { (*regs).sp }
    }

    /// Whether the registers are of user space.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn in_user_mode(regs: *const bpf_user_pt_regs_t) -> bool {
        // SAFETY: by the caller's promise.
        unsafe { (*regs).pstate & LEVEL == 0 }
    }

    /// The interrupted registers if they are the process's.
    ///
    /// # Safety
    /// `regs` must be the context's.
    #[inline(always)]
    pub(super) unsafe fn interrupted(regs: *const bpf_user_pt_regs_t) -> Option<Found> {
        // SAFETY: by the caller's promise. Field by field: the verifier allows no copy of a context.
        if unsafe { !in_user_mode(regs) } {
            return None;
        }
        // SAFETY: as above.
        if unsafe { (*regs).pstate } & STATE_32 != 0 {
            return Some(Found::COMPAT);
        }
        // SAFETY: as above.
        let (ip, sp) = unsafe { ((*regs).pc, (*regs).sp) };
        // SAFETY: as above.
        let (bp, link) = unsafe { ((*regs).regs[29], (*regs).regs[30]) };
        Some(Found::at(Registers { ip, sp, bp, link, in_call: 0 }))
    }

    /// Keeps nothing: no rule of this processor names another register.
    ///
    /// # Safety
    /// None is needed.
    #[inline(always)]
    pub(super) unsafe fn keep(
        _regs: *const bpf_user_pt_regs_t,
        _kept: &mut [u64; LEAF_REGISTERS],
    ) -> bool {
        false
    }

    #[inline(always)]
    pub(super) fn at_entry(regs: &bpf_user_pt_regs_t) -> Found {
        if regs.pstate & LEVEL != 0 {
            return Found::NONE;
        }
        if regs.pstate & STATE_32 != 0 {
            return Found::COMPAT;
        }
        // Behind an `svc`: the row of the instruction itself is the same, as it changes nothing.
        let (bp, link) = (regs.regs[29], regs.regs[30]);
        Found::at(Registers { ip: regs.pc, sp: regs.sp, bp, link, in_call: 0 })
    }
}
