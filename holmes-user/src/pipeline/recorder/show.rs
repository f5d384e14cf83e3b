//! The metrics: gathered from every stage when somebody looks.
//!
//! Must not: change anything but what `/metrics` shows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Recorder;
use crate::collect::clock;
use crate::serve::Gathered;
use crate::signals::Target;

/// The metrics are gathered when somebody asks, at most this often: a client that asks all the time
/// must not keep the loop busy.
pub(super) const SHOW_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// And without anybody asking this often, so that the cgroups' ranks follow what happens.
pub(super) const SHOW_AT_LEAST_EVERY: Duration = Duration::from_secs(10);

impl Recorder {
    /// Gathers the metrics, unless that was done less than `age` ago.
    pub(super) fn show(&mut self, age: Duration) {
        if self.shown.is_some_and(|shown| shown.elapsed() < age) {
            return;
        }
        self.shown = Some(Instant::now());
        let now = clock::monotonic();
        let memory: BTreeMap<&str, u64> = self
            .reader
            .memory()
            .filter_map(|(target, bytes)| match target {
                Target::Cgroup { path, .. } => Some((path.as_str(), bytes)),
                Target::Host | Target::Process { .. } => None,
            })
            .collect();
        let totals = self.flight.totals();
        let cgroups = self.live.cgroup_totals(now, &memory, &self.reader.goroutines());
        let gathered = Gathered {
            totals: &totals,
            kernel: &self.live.probes.counts(),
            probes: self.live.probes.statuses(),
            programs: &self.live.probes.program_uses(),
            maps: &self.live.probes.map_uses(cgroups.len()),
            delivered: &self.live.delivered,
            processes: self.live.attributor.process_stats(),
            unwind: self.live.unwind_stats(),
            names: &self.names,
            fetches: self.desk.fetches(),
            store: self.store.counts(),
            desk_full: self.desk.full,
            desk_broken: self.desk.broken,
            invalid_profiles: self.invalid_profiles,
            unrecorded_inputs: self.tap.missed,
            cgroups: &cgroups,
            tracked: self.reader.targets().count() as u64,
        };
        self.metrics.update(&gathered.snapshot());
    }
}
