//! What an observation counts for in which profile, and what became of it.
//!
//! Must not: keep anything.

use holmes_common::limits::{HUGE_PAGES, PAGE_BYTES};

use super::cut::{Detail, ProfileKind};
use crate::collect::{Memory, What};

/// What became of an observation that was given to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in its second's bucket.
    Held,
    /// No profile counts it (exits, memory given back, ...).
    NotProfiled,
    /// Lost: older than the window.
    Late,
    /// Lost: its second has already fallen out to stay under the memory cap.
    Evicted,
    /// Lost: its stack is new, and the newest second alone has as many stacks as may be held.
    StacksFull,
}

/// The profile and the two values that an observation counts for; `None` where it is part of none.
///
/// Giving back is no sample: the profiles show where memory came from. The kernel's totals of each
/// cgroup count what was given back.
pub(super) fn sample(what: What, sample_period_ns: u64) -> Option<(ProfileKind, [i64; 2])> {
    let saturate = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    match what {
        What::CpuSample => Some((ProfileKind::Cpu, [1, saturate(sample_period_ns)])),
        What::Mmap { bytes, calls }
        | What::Brk { bytes, calls }
        | What::Mremap { bytes, calls } => {
            Some((ProfileKind::Mmap, [saturate(calls), saturate(bytes)]))
        }
        // What of it is still in use is not known until the profile is cut: the residency ledger adds
        // it then.
        What::Fault { bytes: 0, .. } => None,
        What::Fault { bytes, memory, .. } => {
            Some((ProfileKind::Memory, [pages(bytes, memory), saturate(bytes)]))
        }
        // "Alive" is not known until the profile is cut: the thread ledger adds it then.
        What::NewThread { .. } => Some((ProfileKind::Threads, [1, 0])),
        // How long it takes is not known yet: the ledger of waits adds it.
        What::Wait { waits, .. } => Some((ProfileKind::Blocked, [saturate(waits), 0])),
        // Nobody saw it begin, or it was counted when it did.
        What::Blocked { .. } => Some((ProfileKind::Blocked, [0, 0])),
        What::WaitEnd { .. }
        | What::Released { .. }
        | What::Moved { .. }
        | What::NewProcess { .. }
        | What::Exec
        | What::Exit
        | What::OomVictim
        // They are counted by the ledger of allocations.
        | What::Allocation { .. }
        | What::Free { .. } => None,
    }
}

/// What tells an observation's values from others of the same owner and stack.
pub(super) fn detail(what: What) -> Detail {
    match what {
        What::Fault { memory, .. } => Detail::Memory(memory),
        // For which lock is told as long as it is waited for: there are as many as threads.
        What::Wait { cause, .. } | What::Blocked { cause, .. } => Detail::over(cause),
        _ => Detail::None,
    }
}

/// How many pages so many bytes are, at least one.
pub(super) fn pages(bytes: u64, memory: Memory) -> i64 {
    let pages = if memory == Memory::AnonymousHuge { HUGE_PAGES } else { 1 };
    let page = pages * PAGE_BYTES;
    i64::try_from((bytes / page).max(1)).unwrap_or(i64::MAX)
}
