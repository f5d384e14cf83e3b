//! mmap, munmap, brk and mremap: how a process changes its address space, with sizes and stacks.
//!
//! Each call is a pair of system-call tracepoints: what was asked is kept when it begins, and
//! counts when it has succeeded. A failed call changes nothing and is not counted.

use aya_ebpf::{
    EbpfContext, helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};
use holmes_common::{
    counter::{CgroupTotals, Counter, Stream},
    globals::NO_OFFSET,
    record::RecordKind,
};

use crate::{
    filter::{Subject, current_mm, pointer, subject},
    globals::{OFFSETS, SYSCALL_LAYOUT},
    maps::{PAIRS, Slot},
    record::Report,
    stats::{add, cgroup_totals, count},
    unwind::{chains, registers},
};

/// System calls return addresses; from here on they are negated error numbers (`MAX_ERRNO`).
const FIRST_ERROR: u64 = -4095_i64 as u64;

/// Shift from pages to bytes on x86-64, which has no other page size.
const PAGE_SHIFT: u32 = 12;

/// Marks a word of the process that could not be read: no address and no page count is this large.
const UNKNOWN: u64 = u64::MAX;

/// A call that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pending {
    /// What was asked: bytes, for `mremap` the difference.
    asked: u64,
    /// What the process had before: for `munmap` pages mapped, for `brk` the heap's end.
    before: u64,
}

/// `mmap(addr, length, ...)`.
#[tracepoint(category = "syscalls", name = "sys_enter_mmap")]
pub fn mmap_enter(ctx: TracePointContext) -> u32 {
    begin(argument(&ctx, 1), NO_OFFSET)
}

/// Returns the address, or an error.
#[tracepoint(category = "syscalls", name = "sys_exit_mmap")]
pub fn mmap_exit(ctx: TracePointContext) -> u32 {
    let Some((subject, Pending { asked, .. })) = end() else {
        return 0;
    };
    if result(&ctx) >= FIRST_ERROR {
        return 0;
    }
    tally(&subject, |totals| unsafe {
        add(&raw mut (*totals).mmap_calls, 1);
        add(&raw mut (*totals).mmap_bytes, asked);
    });
    send(&ctx, &subject, RecordKind::Mmap, asked as i64)
}

/// `munmap(addr, length)`.
#[tracepoint(category = "syscalls", name = "sys_enter_munmap")]
pub fn munmap_enter(ctx: TracePointContext) -> u32 {
    // The kernel unmaps whole pages.
    let pages = argument(&ctx, 1).wrapping_add((1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT;
    begin(pages << PAGE_SHIFT, OFFSETS.load().mm_total_vm)
}

/// Returns 0, or an error. The length is what was asked, which may cover holes: it is clamped to
/// the pages that the process lost meanwhile.
#[tracepoint(category = "syscalls", name = "sys_exit_munmap")]
pub fn munmap_exit(ctx: TracePointContext) -> u32 {
    let Some((subject, Pending { asked, before })) = end() else {
        return 0;
    };
    if result(&ctx) != 0 {
        return 0;
    }
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
    send(&ctx, &subject, RecordKind::Munmap, bytes as i64)
}

/// `brk(end)`.
#[tracepoint(category = "syscalls", name = "sys_enter_brk")]
pub fn brk_enter(_ctx: TracePointContext) -> u32 {
    begin(0, OFFSETS.load().mm_brk)
}

/// Returns where the heap ends now; unchanged if the call failed or only asked.
#[tracepoint(category = "syscalls", name = "sys_exit_brk")]
pub fn brk_exit(ctx: TracePointContext) -> u32 {
    let Some((subject, Pending { before, .. })) = end() else {
        return 0;
    };
    if before == UNKNOWN || before == 0 {
        // Without the heap's end before the call a difference means nothing.
        count(Counter::PairMissing);
        return 0;
    }
    let delta = result(&ctx).wrapping_sub(before) as i64;
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
    send(&ctx, &subject, RecordKind::Brk, delta)
}

/// `mremap(addr, old_length, new_length, ...)`.
#[tracepoint(category = "syscalls", name = "sys_enter_mremap")]
pub fn mremap_enter(ctx: TracePointContext) -> u32 {
    begin(argument(&ctx, 2).wrapping_sub(argument(&ctx, 1)), NO_OFFSET)
}

/// Returns the address, or an error.
#[tracepoint(category = "syscalls", name = "sys_exit_mremap")]
pub fn mremap_exit(ctx: TracePointContext) -> u32 {
    let Some((subject, Pending { asked, .. })) = end() else {
        return 0;
    };
    if result(&ctx) >= FIRST_ERROR {
        return 0;
    }
    let delta = asked as i64;
    tally(&subject, |totals| unsafe {
        add(&raw mut (*totals).mremap_calls, 1);
        if delta > 0 {
            add(&raw mut (*totals).mremap_grown_bytes, delta as u64);
        } else {
            add(&raw mut (*totals).mremap_shrunk_bytes, delta.unsigned_abs());
        }
    });
    send(&ctx, &subject, RecordKind::Mremap, delta)
}

/// Drops what the current thread has begun: it ends and will not come back.
#[inline(always)]
pub fn forget_current() {
    // Most threads have begun nothing.
    let _ = PAIRS.remove(bpf_get_current_pid_tgid());
}

/// Argument `n` of the call.
#[inline(always)]
fn argument(ctx: &TracePointContext, n: u32) -> u64 {
    read(ctx, SYSCALL_LAYOUT.load().arguments + n * 8)
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

/// Keeps what was asked, and a word of the `mm_struct`, until the call ends. Only for the target:
/// the calls of others must not take room in the map.
#[inline(always)]
fn begin(asked: u64, mm_offset: u32) -> u32 {
    if subject().is_some() {
        let before = if mm_offset == NO_OFFSET { UNKNOWN } else { mm_word(mm_offset) };
        if PAIRS.insert(bpf_get_current_pid_tgid(), Pending { asked, before }, 0).is_err() {
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

#[inline(always)]
fn send(ctx: &TracePointContext, subject: &Subject, kind: RecordKind, value: i64) -> u32 {
    let found = registers::entered();
    Report { stream: Stream::Memory, slot: Slot::Call, kind, flags: 0, value, aux: 0 }
        .send_with_stacks(ctx.as_ptr(), subject, &chains::CALLS, &found, false, |_| {});
    0
}
