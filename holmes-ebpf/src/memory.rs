//! mmap, munmap, brk, mremap and madvise: how a process changes its address space, with sizes, and
//! stacks where it gains.
//!
//! A call counts when it has succeeded; a failed one changes nothing. Its arguments are still known
//! then. Where a difference is needed, another probe keeps the value from before. Each cgroup's
//! totals are exact; of the records, some are left out where a process does nothing else.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    },
    macros::tracepoint,
    programs::TracePointContext,
};
use holmes_common::{
    counter::{CgroupTotals, Counter, Stream},
    globals::NO_OFFSET,
    limits::{CALL_BURST, CALL_EARNED_NS, CALL_SHARE, LARGE_CALL_BYTES},
    record::RecordKind,
};

use crate::{
    faults,
    filter::{Subject, current_mm, pointer, subject},
    globals::{OFFSETS, SYSCALL_LAYOUT},
    maps::{ALLOWANCES, PAIRS, Slot},
    record::Report,
    releases,
    stats::{add, cgroup_totals, count},
    unwind::{chains, registers},
};

/// System calls return addresses; from here on they are negated error numbers (`MAX_ERRNO`).
const FIRST_ERROR: u64 = -4095_i64 as u64;

/// Shift from pages to bytes on x86-64, which has no other page size.
const PAGE_SHIFT: u32 = 12;

/// Marks a word of the process that could not be read: no address and no page count is this large.
const UNKNOWN: u64 = u64::MAX;

/// `MAP_FIXED`: what was mapped there before is gone.
const MAP_FIXED: u64 = 0x10;

/// `MADV_DONTNEED`, `MADV_REMOVE` and `MADV_DONTNEED_LOCKED`: the pages are gone at once. Those that
/// only allow the kernel to take pages some time are seen when the pages are looked at.
const GIVES_BACK: [u64; 3] = [4, 9, 24];

/// A call that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pending {
    /// What the process had before: for `munmap` pages mapped, for `brk` the heap's end.
    before: u64,
}

/// How many calls may still be recorded one by one on a CPU.
#[repr(C)]
pub struct Allowance {
    /// Calls of any size.
    calls: u64,
    /// Calls for many bytes, when those are used up.
    large: u64,
    /// When the last of them were earned, `CLOCK_MONOTONIC` in nanoseconds.
    earned_at: u64,
}

/// Returns the address, or an error; `mmap(addr, length, prot, flags, ...)`.
#[tracepoint(category = "syscalls", name = "sys_exit_mmap")]
pub fn mmap_exit(ctx: TracePointContext) -> u32 {
    let address = result(&ctx);
    if address >= FIRST_ERROR {
        return 0;
    }
    let Some((subject, [_, asked, _, flags])) = succeeded() else {
        return 0;
    };
    tally(&subject, |totals| unsafe {
        add(&raw mut (*totals).mmap_calls, 1);
        add(&raw mut (*totals).mmap_bytes, asked);
    });
    faults::prepare(subject.tgid);
    if flags & MAP_FIXED != 0 {
        releases::released(&subject, address, asked);
    }
    send(&ctx, &subject, RecordKind::Mmap, asked)
}

/// `munmap(addr, length)`.
#[tracepoint(category = "syscalls", name = "sys_enter_munmap")]
pub fn munmap_enter(_ctx: TracePointContext) -> u32 {
    begin(OFFSETS.load().mm_total_vm)
}

/// Returns 0, or an error. The length is what was asked, which may cover holes: it is clamped to
/// the pages that the process lost meanwhile.
#[tracepoint(category = "syscalls", name = "sys_exit_munmap")]
pub fn munmap_exit(ctx: TracePointContext) -> u32 {
    let Some((subject, Pending { before })) = end() else {
        return 0;
    };
    if result(&ctx) != 0 {
        return 0;
    }
    let Some([address, length, ..]) = arguments() else {
        return 0;
    };
    // The kernel unmaps whole pages.
    let asked = length.wrapping_add((1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT << PAGE_SHIFT;
    let after = mm_word(OFFSETS.load().mm_total_vm);
    let bytes = if before == UNKNOWN || after == UNKNOWN {
        asked
    } else {
        // Another thread may map memory meanwhile: then less is seen, never more.
        asked.min(before.saturating_sub(after) << PAGE_SHIFT)
    };
    tally(&subject, |totals| unsafe {
        add(&raw mut (*totals).munmap_calls, 1);
        add(&raw mut (*totals).munmap_bytes, bytes);
    });
    releases::released(&subject, address, asked);
    0
}

/// `brk(end)`.
#[tracepoint(category = "syscalls", name = "sys_enter_brk")]
pub fn brk_enter(_ctx: TracePointContext) -> u32 {
    begin(OFFSETS.load().mm_brk)
}

/// Returns where the heap ends now; unchanged if the call failed or only asked.
#[tracepoint(category = "syscalls", name = "sys_exit_brk")]
pub fn brk_exit(ctx: TracePointContext) -> u32 {
    let Some((subject, Pending { before })) = end() else {
        return 0;
    };
    if before == UNKNOWN || before == 0 {
        // Without the heap's end before the call a difference means nothing.
        count(Counter::PairMissing);
        return 0;
    }
    let after = result(&ctx);
    let delta = after.wrapping_sub(before) as i64;
    if delta == 0 {
        return 0;
    }
    tally(&subject, |totals| unsafe {
        add(&raw mut (*totals).brk_calls, 1);
        if delta > 0 {
            add(&raw mut (*totals).brk_grown_bytes, delta as u64);
        } else {
            add(&raw mut (*totals).brk_shrunk_bytes, delta.unsigned_abs());
        }
    });
    if delta < 0 {
        releases::released(&subject, after, delta.unsigned_abs());
        return 0;
    }
    faults::prepare(subject.tgid);
    send(&ctx, &subject, RecordKind::Brk, delta as u64)
}

/// Returns the address, or an error; `mremap(addr, old_length, new_length, ...)`.
#[tracepoint(category = "syscalls", name = "sys_exit_mremap")]
pub fn mremap_exit(ctx: TracePointContext) -> u32 {
    let address = result(&ctx);
    if address >= FIRST_ERROR {
        return 0;
    }
    let Some((subject, [from, before, after, _])) = succeeded() else {
        return 0;
    };
    let delta = after.wrapping_sub(before) as i64;
    tally(&subject, |totals| unsafe {
        add(&raw mut (*totals).mremap_calls, 1);
        if delta > 0 {
            add(&raw mut (*totals).mremap_grown_bytes, delta as u64);
        } else {
            add(&raw mut (*totals).mremap_shrunk_bytes, delta.unsigned_abs());
        }
    });
    if delta < 0 {
        releases::released(&subject, from.wrapping_add(after), delta.unsigned_abs());
    }
    if address != from {
        // What was mapped at the new place is gone, if there was something.
        releases::released(&subject, address, after);
        releases::moved(&subject, from, address, before.min(after));
    }
    if delta <= 0 {
        return 0;
    }
    send(&ctx, &subject, RecordKind::Mremap, delta as u64)
}

/// Returns 0, or an error; `madvise(addr, length, advice)`.
#[tracepoint(category = "syscalls", name = "sys_exit_madvise")]
pub fn madvise_exit(ctx: TracePointContext) -> u32 {
    if result(&ctx) != 0 {
        return 0;
    }
    let Some((subject, [address, length, advice, _])) = succeeded() else {
        return 0;
    };
    if GIVES_BACK.contains(&advice) {
        releases::released(&subject, address, length);
    }
    0
}

/// Drops what the current thread has begun: it ends and will not come back.
#[inline(always)]
pub fn forget_current() {
    // Most threads have begun nothing.
    let _ = PAIRS.remove(bpf_get_current_pid_tgid());
}

/// The target's task, and the arguments of the call that it has just come back from.
#[inline(always)]
fn succeeded() -> Option<(Subject, [u64; 4])> {
    let subject = subject()?;
    Some((subject, arguments()?))
}

/// The arguments of the call that ends. They are still in the registers with which the process entered
/// the kernel: no probe is needed where it begins.
#[inline(always)]
fn arguments() -> Option<[u64; 4]> {
    let found = registers::arguments();
    if found.is_none() {
        count(Counter::PairMissing);
    }
    found
}

/// The call's result.
#[inline(always)]
fn result(ctx: &TracePointContext) -> u64 {
    read(ctx, SYSCALL_LAYOUT.load().result)
}

#[inline(always)]
fn read(ctx: &TracePointContext, offset: u32) -> u64 {
    // SAFETY: the offset is the format file's; the helper fails on a bad address.
    unsafe { ctx.read_at(offset as usize) }.unwrap_or(0)
}

/// A word of the current process's `mm_struct`; `UNKNOWN` where its place is not known.
#[inline(always)]
fn mm_word(offset: u32) -> u64 {
    match current_mm(OFFSETS.load().task_mm) {
        Some(mm) if mm != 0 && offset != NO_OFFSET => pointer(mm, offset),
        _ => UNKNOWN,
    }
}

/// Keeps a word of the `mm_struct` until the call ends. Only for the target: the calls of others must
/// not take room in the map.
#[inline(always)]
fn begin(mm_offset: u32) -> u32 {
    if subject().is_some() {
        let pending = Pending { before: mm_word(mm_offset) };
        if PAIRS.insert(bpf_get_current_pid_tgid(), pending, 0).is_err() {
            count(Counter::PairMapFull);
        }
    }
    0
}

/// Takes what [`begin`] kept, if the call is the target's.
#[inline(always)]
fn end() -> Option<(Subject, Pending)> {
    let subject = subject()?;
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread writes or removes this key.
    let Some(pending) = unsafe { PAIRS.get(thread) }.copied() else {
        count(Counter::PairMissing);
        return None;
    };
    // It was there a moment ago, and nobody else removes it.
    let _ = PAIRS.remove(thread);
    Some((subject, pending))
}

/// Adds to the totals of the subject's cgroup.
#[inline(always)]
fn tally(subject: &Subject, add_to: impl FnOnce(*mut CgroupTotals)) {
    if let Some(totals) = cgroup_totals(subject.cgroup_id) {
        add_to(totals);
    }
}

/// Records a call that gained address space, with the stack; or leaves it out, where there are many, and
/// another one stands for it.
#[inline(always)]
fn send(ctx: &TracePointContext, subject: &Subject, kind: RecordKind, bytes: u64) -> u32 {
    let Some(stands_for) = stands_for(bytes) else {
        return 0;
    };
    let found = registers::entered();
    Report {
        stream: Stream::Memory,
        slot: Slot::Call,
        kind,
        flags: 0,
        value: bytes.wrapping_mul(stands_for) as i64,
        aux: stands_for,
    }
    .send_with_stacks(ctx.as_ptr(), subject, &chains::CALLS, &found, false, |_| {});
    0
}

/// How many calls the record of this one stands for; `None` if it is left out. One by one as long as
/// there are not many; then one of some, drawn at random.
#[inline(always)]
fn stands_for(bytes: u64) -> Option<u64> {
    let Some(allowance) = ALLOWANCES.get_ptr_mut(0) else {
        return Some(1);
    };
    // SAFETY: the entry is this CPU's, and the kernel never runs one program on a tracepoint inside
    // another on the same CPU.
    let allowance = unsafe { &mut *allowance };
    if allowance.calls == 0 {
        // SAFETY: no argument.
        let now = unsafe { bpf_ktime_get_ns() };
        let earned = now.wrapping_sub(allowance.earned_at) / CALL_EARNED_NS;
        if earned > 0 {
            allowance.calls = earned.min(CALL_BURST);
            allowance.large = earned.min(CALL_BURST);
            allowance.earned_at = now;
        }
    }
    if allowance.calls > 0 {
        allowance.calls -= 1;
        return Some(1);
    }
    if bytes >= LARGE_CALL_BYTES && allowance.large > 0 {
        allowance.large -= 1;
        return Some(1);
    }
    // SAFETY: no argument.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    (random & (CALL_SHARE - 1) == 0).then_some(CALL_SHARE)
}

const _: () = assert!(CALL_SHARE.is_power_of_two());
