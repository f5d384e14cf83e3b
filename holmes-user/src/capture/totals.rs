//! What the recorder has counted since it started, and why it refuses a capture.
//!
//! Must not: hold state; the recorder fills it in.

use std::collections::BTreeMap;

use super::incident::Losses;
use super::recorder::MAX_PENDING;
use crate::signals::Signal;
use crate::window::WindowStats;

/// Why a capture that somebody asked for was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many at the same time.
    #[error("{MAX_PENDING} captures are under way already: try again when one of them has closed")]
    PendingFull,
    /// Too many in the last hour. Whoever reaches the trigger must not be able to push the
    /// incidents of the rules off the disk.
    #[error("the incidents of this hour are used up: --max-incidents-per-hour allows more")]
    Budget,
    /// Too many were killed for memory at the same time.
    #[error("its incident names as many victims as it may")]
    Victims,
}

/// What the recorder has counted since it started, for `/metrics` and for the closing line.
#[derive(Clone, Debug)]
pub struct Totals {
    /// CPU samples: taken = reported + lost, where `reported` have reached the window and the
    /// losses are those before it and at its door. What the window evicts later had been reported:
    /// see [`WindowStats`], and [`Totals::samples_kept`].
    pub samples: Losses,
    /// `samples_taken` as the probes counted it. More than `samples.taken` by what is in the ring
    /// buffer at the moment.
    pub kernel_taken: u64,
    /// All counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Decisions by signal and by what was decided.
    pub decisions: BTreeMap<(Signal, &'static str), u64>,
    /// Captures by result: `rule`, `manual` and `oom` (opened), `closed`, `pending_full`, `budget`
    /// and `victims_full` (refused).
    pub captures: BTreeMap<&'static str, u64>,
    /// Captures under way.
    pub pending: usize,
    /// The window.
    pub window: WindowStats,
}

impl Totals {
    /// The samples, with those that the window evicted early among the lost: what is true of a
    /// profile cut over the whole run.
    pub fn samples_kept(&self) -> Losses {
        let mut kept = self.samples.clone();
        let evicted = self.window.evicted_later.cpu;
        kept.reported -= evicted.min(kept.reported);
        if evicted > 0 {
            *kept.lost.entry("window_evicted".to_owned()).or_insert(0) += evicted;
        }
        kept
    }
}
