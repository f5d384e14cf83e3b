//! How long goroutines have been blocked, at the least: from two snapshots.
//!
//! The runtime notes since when a goroutine waits only while the collector runs.
//!
//! Must not: count a goroutine as blocked that ran in between and came back.

use std::collections::HashMap;
use std::time::Duration;

use super::goroutine::{Goroutine, Snapshot, State};

/// Which goroutines of a snapshot have not moved since an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Time between the two: so long they are blocked at the least.
    pub span: Duration,
    /// For each goroutine of the later one, in its order.
    stayed: Vec<bool>,
}

impl Blocked {
    /// Compares two snapshots of one process.
    pub fn between(earlier: &Snapshot, later: &Snapshot) -> Self {
        let known: HashMap<u64, &Goroutine> =
            earlier.goroutines.iter().map(|goroutine| (goroutine.id, goroutine)).collect();
        let stayed = later
            .goroutines
            .iter()
            .map(|now| known.get(&now.id).is_some_and(|then| has_stayed(then, now)))
            .collect();
        // The first was over only then.
        let span = later.taken.since(earlier.taken.plus(earlier.took));
        Self { span, stayed }
    }

    /// Whether a goroutine of the later snapshot was blocked all the time, by its place there.
    pub fn has_stayed(&self, index: usize) -> bool {
        self.stayed.get(index).copied().unwrap_or(false)
    }
}

/// It waits for the same thing at the same place, and has not run: it would have stopped running once
/// more. That is counted in a byte: one that ran 256 times, and is where it was, looks blocked.
fn has_stayed(then: &Goroutine, now: &Goroutine) -> bool {
    let waits = matches!(now.state, State::Waiting(_) | State::Leaked(_) | State::Syscall);
    waits && then.state == now.state && then.mark == now.mark
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::goroutine::{Mark, Stack, StackEnd};
    use super::*;
    use crate::collect::Nanos;
    use crate::golang::GoVersion;

    fn snapshot(ms: u64, goroutines: &[(u64, State, u8)]) -> Snapshot {
        let stack = Arc::new(Stack { addresses: [].into(), end: StackEnd::Whole });
        let goroutine = |&(id, state, stops)| Goroutine {
            id,
            state,
            waits_since: None,
            is_locked: false,
            creator: 0,
            parent: 0,
            labels: None,
            lock: 0,
            stack: stack.clone(),
            mark: Mark { address: 8, stops, at: (1, 2) },
        };
        Snapshot {
            pid: 1,
            version: GoVersion::parse("go1.26.0").unwrap(),
            taken: Nanos(ms * 1_000_000),
            took: Duration::from_millis(10),
            shows_labels: false,
            goroutines: goroutines.iter().map(goroutine).collect(),
            system: 0,
            unread: 0,
            without_stack: 0,
            without_labels: 0,
            without_lock: 0,
        }
    }

    #[test]
    fn only_those_that_did_not_run() {
        let waits = State::Waiting(19);
        let then = snapshot(0, &[(1, waits, 3), (2, waits, 3), (3, State::Running, 1)]);
        let now = snapshot(
            1000,
            &[(3, State::Running, 1), (2, waits, 4), (1, waits, 3), (9, State::Syscall, 0)],
        );
        let blocked = Blocked::between(&then, &now);
        assert_eq!(blocked.span, Duration::from_millis(990));
        let stayed: Vec<bool> = (0..5).map(|index| blocked.has_stayed(index)).collect();
        assert_eq!(stayed, [false, false, true, false, false]);
    }
}
