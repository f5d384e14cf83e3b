//! The host-wide bound on incidents: so many in any hour, over all rules and targets.

use std::collections::VecDeque;
use std::time::Duration;

use crate::collect::Nanos;

/// The span that the budget is for.
const HOUR: Duration = Duration::from_secs(3600);

/// The largest budget: about three incidents a second, far more than a disk should take. It
/// bounds the memory of what was spent.
pub const MAX_BUDGET: u32 = 10_000;

/// When the incidents of the last hour were.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    spent: VecDeque<Nanos>,
}

impl Budget {
    /// Whether one more incident is allowed at `now`.
    pub(super) fn allows(&mut self, now: Nanos, per_hour: u32) -> bool {
        while self.spent.front().is_some_and(|first| now.since(*first) >= HOUR) {
            self.spent.pop_front();
        }
        self.spent.len() < per_hour.min(MAX_BUDGET) as usize
    }

    /// Spends what [`Budget::allows`] has allowed.
    pub(super) fn spend(&mut self, now: Nanos) {
        self.spent.push_back(now);
    }
}
