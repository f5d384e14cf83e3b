//! Asks who holds the locks that threads wait for, before a profile of their waits is cut.

use std::path::Path;

use super::live::PROC;
use crate::process::{self, LockHolder};
use crate::window::{Owner, Window};

/// Processes and locks looked at for one profile: where more are waited for, these are enough to understand
/// it, and the recorder does nothing else meanwhile.
const MAX_PROCESSES: usize = 32;
const MAX_LOCKS: usize = 256;

/// Who holds the locks that these owners' threads wait for now.
pub(super) fn lock_holders(window: &Window, wanted: &dyn Fn(&Owner) -> bool) -> Vec<LockHolder> {
    let awaited: Vec<(u32, u64)> = window.locks_awaited(wanted).into_iter().collect();
    let by_process = awaited.chunk_by(|left, right| left.0 == right.0).take(MAX_PROCESSES);
    let holders = by_process.flat_map(|locks| {
        let tgid = locks.first().map_or(0, |(tgid, _)| *tgid);
        let locks = locks.iter().map(|(_, lock)| *lock).take(MAX_LOCKS);
        process::lock_holders(Path::new(PROC), tgid, locks)
    });
    holders.collect()
}
