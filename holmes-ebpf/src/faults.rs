//! Resident memory: page faults, sampled by bytes, with the stack that touched the memory first.
//!
//! The event is the kernel's own software counter of successful faults, minor and major, on each
//! CPU. It says how many faults a run stands for; of the runs, most only count towards the next
//! sample. Huge pages are rare and large: each run that meets them is a sample.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_prandom_u32},
    macros::perf_event,
    programs::PerfEventContext,
};
use holmes_common::{
    counter::Stream,
    limits::{FAULT_REGION_BITS, HUGE_PAGES, MAX_REGIONS_LOOKED_UP, PAGE_BYTES},
    record::{RecordKind, flag},
};

use crate::{
    filter::{Subject, subject},
    globals::{COUNT_NOISE, FAULT_INTERVAL},
    maps::{FAULT_STATES, SAMPLED_REGIONS},
    record::Report,
    spaces::{self, Space, current_anon_pages},
    task::current_mm,
    unwind::{chains, registers},
};

/// Faults of a process that no run has stood for yet, on the CPU that it comes from: as many as a run
/// stands for at 700,000 faults a second, and some more.
const MAX_FAULTS_ELSEWHERE: u64 = 128;

/// What a CPU knows from one run to the next. Runs on one CPU do not interrupt each other.
#[repr(C)]
pub struct FaultState {
    /// Bytes to go until the next sample.
    left: i64,
    /// Bytes between the last sample and the next.
    step: u64,
}

/// `PERF_COUNT_SW_PAGE_FAULTS_MIN` and `_MAJ`: after the page was put in place, in the context of
/// the task that touched it.
#[perf_event]
pub fn fault(ctx: PerfEventContext) -> u32 {
    let Some(state) = FAULT_STATES.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the entry is this CPU's, and this program does not interrupt itself.
    let state = unsafe { &mut *state };
    // SAFETY: the context is valid while the program runs, and the verifier checks the offset.
    let faults = unsafe { (*ctx.ctx).sample_period };
    let huge = huge_gain(faults);
    let weight = if let Some(pages) = huge {
        pages * PAGE_BYTES
    } else {
        state.left -= (faults * PAGE_BYTES) as i64;
        if state.left > 0 {
            return 0;
        }
        // What this run stands for beyond the distance is its own, too.
        let beyond = state.left.unsigned_abs();
        let is_first = state.step == 0;
        let weight = state.step + beyond;
        draw(state);
        // The first one on this CPU began nowhere.
        if is_first {
            return 0;
        }
        weight
    };
    let Some(subject) = subject() else {
        return 0;
    };
    // SAFETY: the context is valid while the program runs, and the verifier checks the offset.
    let address = unsafe { (*ctx.ctx).addr };
    mark(subject.tgid, address >> FAULT_REGION_BITS);
    let report = Report {
        stream: Stream::Faults,
        kind: RecordKind::Fault,
        flags: if huge.is_some() { flag::HUGE_PAGE } else { 0 },
        value: weight as i64,
        aux: address,
    };
    // A system call may have touched the memory, to write its answer there.
    let with_kernel = !registers::in_user_mode(&ctx);
    let found = registers::sampled(&ctx);
    report.send_with_stacks(ctx.as_ptr(), &subject, &chains::FAULTS, &found, with_kernel, |walk| {
        registers::keep(&ctx, walk);
    });
    0
}

/// Pages that the process has gained since its last run, if there are so many that one of them may
/// have been huge. User space looks whether the page is: if not, another of these faults may have been of
/// one.
#[inline(always)]
fn huge_gain(faults: u64) -> Option<u64> {
    let pages = current_anon_pages(current_mm().filter(|mm| *mm != 0)?);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(space) = spaces::known(tgid) else {
        spaces::renew(tgid);
        return None;
    };
    // Two CPUs of one process may see the same gain: then it counts twice.
    let before = space.anon_pages;
    space.anon_pages = pages;
    believed(pages.wrapping_sub(before) as i64, faults)
}

/// What is believed of pages that a process has gained since its last run, by so many faults of this CPU;
/// `None` if none of them need have been huge: the kernel counts the pages of one at once. Single pages
/// come to about as many as there were faults, but they are counted in batches, and some come without a
/// fault of the process. So there is room for those, and no more is believed than faults can have brought.
#[inline(always)]
fn believed(gained: i64, faults: u64) -> Option<u64> {
    let expected = 2 * faults + u64::from(COUNT_NOISE.load());
    let at_most = (faults + MAX_FAULTS_ELSEWHERE) * HUGE_PAGES;
    if gained < expected as i64 {
        return None;
    }
    Some(if gained as u64 > at_most { at_most } else { gained as u64 })
}

/// The process calls the kernel about its memory: huge pages that it got since its last run are told now,
/// without a stack. Perhaps no run comes any more: it goes by the faults of all that share the CPU.
#[inline(always)]
pub fn tell_remainder(subject: &Subject, mm: u64, space: &mut Space) {
    let pages = current_anon_pages(mm);
    let Some(gained) = believed(pages.wrapping_sub(space.anon_pages) as i64, 0) else {
        return;
    };
    space.anon_pages = pages;
    Report {
        stream: Stream::Faults,
        kind: RecordKind::Fault,
        flags: flag::HUGE_PAGE,
        value: (gained * PAGE_BYTES) as i64,
        aux: 0,
    }
    .send(subject);
}

/// The process has given so many bytes back: what it gains next is not to be set off against that.
#[inline(always)]
pub fn shrunk(tgid: u32, mm: u64, bytes: u64) {
    if bytes < HUGE_PAGES * PAGE_BYTES {
        return;
    }
    let Some(space) = spaces::known(tgid) else {
        return;
    };
    let pages = current_anon_pages(mm);
    if pages < space.anon_pages {
        space.anon_pages = pages;
    }
}

/// Draws the distance to the next sample: between half and one and a half of the interval, so that no
/// pattern of a program keeps step with it.
#[inline(always)]
fn draw(state: &mut FaultState) {
    let interval = FAULT_INTERVAL.load();
    // SAFETY: no argument.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    let step = (interval >> 1) + ((random * interval) >> 32);
    state.step = step;
    state.left = step as i64;
}

/// Notes that a region has a sample.
#[inline(always)]
fn mark(tgid: u32, number: u64) {
    // Where there is no room the least recently sampled one makes some; a failure under contention
    // is made up for by the next sample.
    let _ = SAMPLED_REGIONS.insert(region(tgid, number), 1, 0);
}

/// Notes that a range has samples, as far as ranges are looked up by region.
#[inline(always)]
pub fn mark_regions(tgid: u32, start: u64, bytes: u64) {
    let first = start >> FAULT_REGION_BITS;
    let last = start.wrapping_add(bytes) >> FAULT_REGION_BITS;
    for at in 0..=MAX_REGIONS_LOOKED_UP {
        if first.wrapping_add(at) > last {
            break;
        }
        mark(tgid, first.wrapping_add(at));
    }
}

/// The key of a process's region. User addresses have at most 57 bits.
#[inline(always)]
fn region(tgid: u32, number: u64) -> u64 {
    u64::from(tgid) << 36 ^ number
}

/// Whether there may be a sample in a range of the process's addresses.
#[inline(always)]
pub fn may_hold_samples(tgid: u32, start: u64, bytes: u64) -> bool {
    if bytes == 0 {
        return false;
    }
    let first = start >> FAULT_REGION_BITS;
    let last = start.wrapping_add(bytes - 1) >> FAULT_REGION_BITS;
    let regions = last.wrapping_sub(first).wrapping_add(1);
    if regions > MAX_REGIONS_LOOKED_UP {
        return true;
    }
    for at in 0..MAX_REGIONS_LOOKED_UP {
        if at >= regions {
            break;
        }
        if SAMPLED_REGIONS.get_ptr(region(tgid, first.wrapping_add(at))).is_some() {
            return true;
        }
    }
    false
}
