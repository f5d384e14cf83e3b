//! mmap, munmap, brk, mremap and madvise: how a process changes its address space, with sizes, and
//! stacks where it gains.
//!
//! A program each at the end of the kernel's function. Where a kernel does not have that, one program looks
//! at the ends of all system calls and lets go of most at once, which costs each of them a little; a
//! tracepoint of each call's own costs ten times as much. A call counts when it has succeeded; a failed one
//! changes nothing. Its arguments are still known then; what the process had before is in `spaces`. Each
//! cgroup's totals are exact; of the records, some are left out where a process does nothing else.

use aya_ebpf::{
    EbpfContext,
    cty::c_void,
    macros::{fexit, raw_tracepoint},
    programs::{FExitContext, RawTracePointContext},
};
use holmes_common::{
    counter::{CgroupTotals, Counter},
    limits::PAGE_SHIFT,
    record::RecordKind,
};

use crate::{
    call_shares::stands_for,
    faults,
    filter::{Subject, subject},
    record::Report,
    releases::{self, Range},
    spaces::{self, Space, pages},
    stats::{add, cgroup_totals, count},
    system_call,
    task::current_mm,
    unwind::{Chain, chains, registers},
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

/// `raw_syscalls:sys_exit`, arguments (`struct pt_regs *regs`, `long ret`), in the context of the process.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn memory_call(ctx: RawTracePointContext) -> u32 {
    let result: u64 = ctx.arg(1);
    // What has failed, or returns a small number, needs not be looked at: each of the five returns 0, or an
    // address behind the first page.
    if result >= FIRST_ERROR || (result != 0 && result < 1 << PAGE_SHIFT) {
        return 0;
    }
    let regs = registers::saved_for_call(ctx.arg(0));
    let number = system_call::number(regs);
    let is_one = number == system_call::MMAP
        || number == system_call::MUNMAP
        || number == system_call::BRK
        || number == system_call::MREMAP
        || number == system_call::MADVISE;
    // The numbers of 32-bit calls mean something else.
    if is_one && !system_call::is_compat() {
        ended(ctx.as_ptr(), regs, number, result, &chains::CALLS);
    }
    0
}

/// Programs at the ends of `__x64_sys_mmap` and so on (`__arm64_sys_mmap`), which 32-bit calls do not come
/// through: `long (const struct pt_regs *regs)`, in the context of the process. Not every verifier knows what
/// the argument is, but the task knows where its registers are.
macro_rules! at_ends {
    ($($program:ident of $number:ident in $chain:ident;)*) => {
        $(
            #[fexit]
            pub fn $program(ctx: FExitContext) -> i32 {
                if let Some(regs) = registers::saved() {
                    let (ctx, result) = (ctx.as_ptr(), ctx.arg(1));
                    ended(ctx, regs, system_call::$number, result, &chains::$chain);
                }
                0
            }
        )*
    };
}

at_ends! {
    mmap_end of MMAP in CALL_ENDS;
    munmap_end of MUNMAP in CALL_ENDS;
    brk_end of BRK in CALL_ENDS;
    mremap_end of MREMAP in MREMAP_ENDS;
    madvise_end of MADVISE in CALL_ENDS;
}

/// A call has ended, with this result.
#[inline(always)]
fn ended(ctx: *mut c_void, regs: u64, number: u64, result: u64, chain: &Chain) {
    if result >= FIRST_ERROR {
        return;
    }
    let Some(subject) = subject() else {
        return;
    };
    let Some(arguments) = system_call::arguments(regs) else {
        return;
    };
    // Without it calls count all the same; what they changed is then what they asked for.
    let mm = current_mm().unwrap_or(0);
    let space = spaces::known(subject.tgid);
    let is_known = space.is_some();
    let call = Call { subject, mm, arguments, result };
    // None of them hands `space` on: the verifier would go through what follows with and without one.
    let change = if number == system_call::MMAP {
        call.mmap(space)
    } else if number == system_call::BRK {
        call.brk(space)
    } else if number == system_call::MREMAP {
        call.mremap(space)
    } else if number == system_call::MUNMAP {
        call.munmap(space)
    } else {
        call.madvise(space)
    };
    if !is_known {
        spaces::renew(subject.tgid);
    }
    // Each in one place, or the verifier goes through them for each kind of call.
    releases::released(&subject, mm, change.gone);
    releases::released(&subject, mm, change.replaced);
    releases::moved(&subject, change.from, change.to, change.moved_bytes);
    if change.gained_bytes > 0 {
        send(ctx, &subject, regs, chain, change.gained_as, change.gained_bytes);
    }
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
    fn mmap(&self, space: Option<&mut Space>) -> Change {
        let [_, asked, _, flags] = self.arguments;
        self.tally(|totals| unsafe {
            add(&raw mut (*totals).mmap_calls, 1);
            add(&raw mut (*totals).mmap_bytes, asked);
        });
        if let Some(space) = space {
            space.mapped(self.mm, pages(asked), flags & (MAP_FIXED | MAP_GROWSDOWN) == 0);
            if flags & MAP_POPULATES != 0 {
                space.populated(self.mm);
            } else {
                faults::tell_remainder(&self.subject, self.mm, space);
            }
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
    fn munmap(&self, space: Option<&mut Space>) -> Change {
        let [address, length, ..] = self.arguments;
        // The kernel unmaps whole pages.
        let asked = pages(length);
        let unmapped = match space {
            _ if !spaces::are_readable() => asked,
            Some(space) => space.unmapped(self.mm, asked),
            None => {
                count(Counter::SpaceUnknown);
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
    fn brk(&self, space: Option<&mut Space>) -> Change {
        let Some(space) = space else {
            // Without the heap's end before the call a difference means nothing.
            count(Counter::SpaceUnknown);
            return Change::NONE;
        };
        let delta = space.heap_moved(self.mm, self.result);
        if delta > 0 {
            faults::tell_remainder(&self.subject, self.mm, space);
        }
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
    fn mremap(&self, space: Option<&mut Space>) -> Change {
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
        if let Some(space) = space {
            // What it replaced, or left where it was, is for its flags to say.
            space.mapped(self.mm, 0, false);
            if gained > 0 {
                faults::tell_remainder(&self.subject, self.mm, space);
            }
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
    fn madvise(&self, space: Option<&mut Space>) -> Change {
        let [address, length, advice, _] = self.arguments;
        if POPULATES.contains(&advice)
            && let Some(space) = space
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
fn send(
    ctx: *mut c_void,
    subject: &Subject,
    regs: u64,
    chain: &Chain,
    kind: RecordKind,
    bytes: u64,
) {
    let Some(stands_for) = stands_for(bytes) else {
        return;
    };
    let found = registers::entered_at(regs);
    Report {
        stream: chain.stream,
        kind,
        flags: 0,
        value: bytes.wrapping_mul(stands_for) as i64,
        aux: stands_for,
    }
    .send_with_stacks(ctx, subject, chain, &found, false, |_| {});
}
