//! What an observation counts for in which profile, and what became of it.
//!
//! Must not: keep anything.

use super::cut::ProfileKind;
use crate::collect::What;

/// What became of an observation that was given to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in its second's bucket.
    Held,
    /// No profile counts it (`munmap`, exits, ...).
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
/// Shrinking (`munmap`, `brk` and `mremap` that give back) is no sample: the mmap profile shows
/// where address space came from. The kernel's totals of each cgroup count what was given back.
pub(super) fn sample(what: What, sample_period_ns: u64) -> Option<(ProfileKind, [i64; 2])> {
    let saturate = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    match what {
        What::CpuSample => Some((ProfileKind::Cpu, [1, saturate(sample_period_ns)])),
        What::Mmap { bytes } => Some((ProfileKind::Mmap, [1, saturate(bytes)])),
        What::Brk { delta } | What::Mremap { delta } if delta > 0 => {
            Some((ProfileKind::Mmap, [1, delta]))
        }
        // "Alive" is not known until the profile is cut: the thread ledger adds it then.
        What::NewThread { .. } => Some((ProfileKind::Threads, [1, 0])),
        What::Brk { .. }
        | What::Mremap { .. }
        | What::Munmap { .. }
        | What::NewProcess { .. }
        | What::Exec
        | What::Exit => None,
    }
}
