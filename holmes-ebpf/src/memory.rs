//! mmap, munmap, brk, mremap and madvise: how a process changes its address space, with sizes, and
//! stacks where it gains.
//!
//! One program looks at the ends of all system calls and lets go of most at once: a tracepoint of each
//! call's own costs ten times as much. A call counts when it has succeeded; a failed one changes
//! nothing. Its arguments are still known then; what the process had before is in `spaces`. Each
//! cgroup's totals are exact; of the records, some are left out where a process does nothing else.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use holmes_common::{
    counter::{CgroupTotals, Counter, Stream},
    limits::{CALL_BURST, CALL_EARNED_NS, CALL_SHARE, LARGE_CALL_BYTES, PAGE_SHIFT},
    record::RecordKind,
};

use crate::{
    faults,
    filter::{Subject, subject},
    maps::{ALLOWANCES, Slot},
    record::Report,
    releases::{self, Range},
    spaces::{self, pages},
    stats::{add, cgroup_totals, count},
    system_call,
    task::current_mm,
    unwind::{chains, registers},
};

/// System calls return addresses; from here on they are negated error numbers (`MAX_ERRNO`).
const FIRST_ERROR: u64 = -4095_i64 as u64;

/// `MAP_FIXED`: what was mapped there before is gone.
const MAP_FIXED: u64 = 0x10;

/// `MAP_GROWSDOWN`: a stack.
const MAP_GROWSDOWN: u64 = 0x100;

/// `MAP_POPULATE` and `MAP_LOCKED`: the pages are there when the call ends.
const MAP_POPULATES: u64 = 0x8000 | 0x2000;

/// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`: the same.
const POPULATES: [u64; 2] = [22, 23];

/// `MADV_DONTNEED`, `MADV_REMOVE` and `MADV_DONTNEED_LOCKED`: the pages are gone at once. Those that
/// only allow the kernel to take pages some time are seen when the pages are looked at.
const GIVES_BACK: [u64; 3] = [4, 9, 24];

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

/// `raw_syscalls:sys_exit`, arguments (`struct pt_regs *regs`, `long ret`), in the context of the process.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn memory_call(ctx: RawTracePointContext) -> u32 {
    let result: u64 = ctx.arg(1);
    let regs = registers::saved_for_call(ctx.arg(0));
    let number = system_call::number(regs);
    let is_one = number == system_call::MMAP
        || number == system_call::MUNMAP
        || number == system_call::BRK
        || number == system_call::MREMAP
        || number == system_call::MADVISE;
    // The numbers of 32-bit calls mean something else.
    if !is_one || result >= FIRST_ERROR || system_call::is_compat() {
        return 0;
    }
    let Some(subject) = subject() else {
        return 0;
    };
    let Some(arguments) = system_call::arguments(regs) else {
        return 0;
    };
    // Without it calls count all the same; what they changed is then what they asked for.
    let mm = current_mm().unwrap_or(0);
    let call = Call { subject, mm, arguments, result };
    let change = if number == system_call::MMAP {
        call.mmap()
    } else if number == system_call::BRK {
        call.brk()
    } else if number == system_call::MREMAP {
        call.mremap()
    } else if number == system_call::MUNMAP {
        call.munmap()
    } else {
        call.madvise()
    };
    if change.gained_bytes > 0 {
        faults::tell_remainder(&subject, mm);
    }
    // Each in one place, or the verifier goes through them for each kind of call.
    releases::released(&subject, mm, change.gone);
    releases::released(&subject, mm, change.replaced);
    releases::moved(&subject, change.from, change.to, change.moved_bytes);
    if change.gained_bytes > 0 {
        send(&ctx, &subject, regs, change.gained_as, change.gained_bytes);
    }
    0
}

/// A call of the target that has succeeded.
struct Call {
    subject: Subject,
    mm: u64,
    arguments: [u64; 4],
    result: u64,
}

/// What a call has done to the address space. What it has not done is of no bytes.
struct Change {
    gained_as: RecordKind,
    gained_bytes: u64,
    gone: Range,
    /// What was where something else is now.
    replaced: Range,
    from: u64,
    to: u64,
    moved_bytes: u64,
}

impl Change {
    const NONE: Self = Self {
        gained_as: RecordKind::Mmap,
        gained_bytes: 0,
        gone: Range::EMPTY,
        replaced: Range::EMPTY,
        from: 0,
        to: 0,
        moved_bytes: 0,
    };

    fn gained(kind: RecordKind, bytes: u64) -> Self {
        Self { gained_as: kind, gained_bytes: bytes, ..Self::NONE }
    }

    fn gone(start: u64, bytes: u64) -> Self {
        Self { gone: Range { start, bytes }, ..Self::NONE }
    }
}

impl Call {
    /// Returns the address; `mmap(addr, length, prot, flags, ...)`.
    #[inline(always)]
    fn mmap(&self) -> Change {
        let [_, asked, _, flags] = self.arguments;
        self.tally(|totals| unsafe {
            add(&raw mut (*totals).mmap_calls, 1);
            add(&raw mut (*totals).mmap_bytes, asked);
        });
        match spaces::known(self.subject.tgid) {
            Some(space) => {
                space.mapped(self.mm, pages(asked), flags & (MAP_FIXED | MAP_GROWSDOWN) == 0);
                if flags & MAP_POPULATES != 0 {
                    space.populated(self.mm);
                }
            }
            None => spaces::renew(self.subject.tgid),
        }
        let replaced = if flags & MAP_FIXED != 0 { asked } else { 0 };
        Change {
            replaced: Range { start: self.result, bytes: replaced },
            ..Change::gained(RecordKind::Mmap, asked)
        }
    }

    /// `munmap(addr, length)`. The length is what was asked, which may cover holes: it is clamped to
    /// the pages that the process has lost.
    #[inline(always)]
    fn munmap(&self) -> Change {
        let [address, length, ..] = self.arguments;
        // The kernel unmaps whole pages.
        let asked = pages(length);
        let unmapped = match spaces::known(self.subject.tgid) {
            _ if !spaces::are_readable() => asked,
            Some(space) => space.unmapped(self.mm, asked),
            None => {
                count(Counter::SpaceUnknown);
                spaces::renew(self.subject.tgid);
                0
            }
        };
        self.tally(|totals| unsafe {
            add(&raw mut (*totals).munmap_calls, 1);
            add(&raw mut (*totals).munmap_bytes, unmapped << PAGE_SHIFT);
        });
        Change::gone(address, asked << PAGE_SHIFT)
    }

    /// Returns where the heap ends now; unchanged if the call failed or only asked; `brk(end)`.
    #[inline(always)]
    fn brk(&self) -> Change {
        let Some(space) = spaces::known(self.subject.tgid) else {
            // Without the heap's end before the call a difference means nothing.
            count(Counter::SpaceUnknown);
            spaces::renew(self.subject.tgid);
            return Change::NONE;
        };
        let delta = space.heap_moved(self.mm, self.result);
        if delta == 0 {
            return Change::NONE;
        }
        self.tally(|totals| unsafe {
            add(&raw mut (*totals).brk_calls, 1);
            if delta > 0 {
                add(&raw mut (*totals).brk_grown_bytes, delta as u64);
            } else {
                add(&raw mut (*totals).brk_shrunk_bytes, delta.unsigned_abs());
            }
        });
        if delta < 0 {
            return Change::gone(self.result, delta.unsigned_abs());
        }
        Change::gained(RecordKind::Brk, delta as u64)
    }

    /// Returns the address; `mremap(addr, old_length, new_length, ...)`.
    #[inline(always)]
    fn mremap(&self) -> Change {
        let ([from, before, after, _], to) = (self.arguments, self.result);
        let kept = if before < after { before } else { after };
        let (gained, gone) = (after.wrapping_sub(kept), before.wrapping_sub(kept));
        self.tally(|totals| unsafe {
            add(&raw mut (*totals).mremap_calls, 1);
            if gained > 0 {
                add(&raw mut (*totals).mremap_grown_bytes, gained);
            } else {
                add(&raw mut (*totals).mremap_shrunk_bytes, gone);
            }
        });
        match spaces::known(self.subject.tgid) {
            // What it replaced, or left where it was, is for its flags to say.
            Some(space) => space.mapped(self.mm, 0, false),
            None => spaces::renew(self.subject.tgid),
        }
        let (replaced, moved) = if to == from { (0, 0) } else { (after, kept) };
        Change {
            gone: Range { start: from.wrapping_add(kept), bytes: gone },
            // What was mapped at the new place is gone, if there was something.
            replaced: Range { start: to, bytes: replaced },
            from,
            to,
            moved_bytes: moved,
            ..Change::gained(RecordKind::Mremap, gained)
        }
    }

    /// `madvise(addr, length, advice)`.
    #[inline(always)]
    fn madvise(&self) -> Change {
        let [address, length, advice, _] = self.arguments;
        if POPULATES.contains(&advice)
            && let Some(space) = spaces::known(self.subject.tgid)
        {
            space.populated(self.mm);
        }
        let gone = if GIVES_BACK.contains(&advice) { length } else { 0 };
        Change::gone(address, gone)
    }

    /// Adds to the totals of the caller's cgroup.
    #[inline(always)]
    fn tally(&self, add_to: impl FnOnce(*mut CgroupTotals)) {
        if let Some(totals) = cgroup_totals(self.subject.cgroup_id) {
            add_to(totals);
        }
    }
}

/// Records a call that gained address space, with the stack; or leaves it out, where there are many, and
/// another one stands for it.
#[inline(always)]
fn send(ctx: &RawTracePointContext, subject: &Subject, regs: u64, kind: RecordKind, bytes: u64) {
    let Some(stands_for) = stands_for(bytes) else {
        return;
    };
    let found = registers::entered_at(regs);
    Report {
        stream: Stream::Memory,
        slot: Slot::Call,
        kind,
        flags: 0,
        value: bytes.wrapping_mul(stands_for) as i64,
        aux: stands_for,
    }
    .send_with_stacks(ctx.as_ptr(), subject, &chains::CALLS, &found, false, |_| {});
}

/// How many calls the record of this one stands for; `None` if it is left out. One by one as long as
/// there are not many; then one of some, drawn at random.
#[inline(always)]
fn stands_for(bytes: u64) -> Option<u64> {
    let Some(allowance) = ALLOWANCES.get_ptr_mut(0) else {
        return Some(1);
    };
    // SAFETY: the entry is this CPU's, and the kernel never runs a program inside itself on one CPU.
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
