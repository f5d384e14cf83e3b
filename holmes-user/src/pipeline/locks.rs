//! Asks who holds the locks that threads wait for, before a profile of their waits is cut.

use std::path::Path;

use super::live::PROC;
use crate::process::{LockHolder, lock_holder};
use crate::window::{Owner, Window};

/// Locks looked at for one profile: where more are waited for, these are enough to understand it.
const MAX_LOCKS: usize = 256;

/// Who holds the locks that these owners' threads wait for now.
pub(super) fn lock_holders(window: &Window, wanted: &dyn Fn(&Owner) -> bool) -> Vec<LockHolder> {
    let awaited = window.locks_awaited(wanted).into_iter().take(MAX_LOCKS);
    awaited.filter_map(|(tgid, lock)| lock_holder(Path::new(PROC), tgid, lock)).collect()
}
