//! What the kernel counted, over time: which counter grew between which two readings.
//!
//! Must not: know the window. The recorder puts both together.

use std::collections::{BTreeMap, VecDeque};

use super::incident::Losses;
use super::input::Counters;
use crate::collect::Nanos;
use crate::window::{MAX_SPAN_SECONDS, SpanTally};

/// Counters followed. The probes have 70; the rest is room for the stages between them and the
/// window.
const MAX_COUNTERS: usize = 96;

/// Readings kept: two for each second of the longest window. The oldest go first; readings in which
/// nothing grew cost nothing.
const MAX_STEPS: usize = 2 * MAX_SPAN_SECONDS as usize;

/// What grew between two readings.
#[derive(Debug)]
struct Step {
    from: Nanos,
    to: Nanos,
    grown: Vec<(String, u64)>,
}

/// Owner of the counters' past.
#[derive(Debug)]
pub(super) struct CounterHistory {
    read_at: Nanos,
    totals: BTreeMap<String, u64>,
    steps: VecDeque<Step>,
}

impl CounterHistory {
    /// The probes count from `start` on.
    pub(super) fn new(start: Nanos) -> Self {
        Self { read_at: start, totals: BTreeMap::new(), steps: VecDeque::new() }
    }

    /// Takes a reading in. A counter that fell stays at its highest: it has lost nothing new.
    pub(super) fn read(&mut self, counters: Counters) {
        let mut grown = Vec::new();
        for (name, total) in counters.totals {
            if !self.totals.contains_key(&name) && self.totals.len() >= MAX_COUNTERS {
                continue;
            }
            let known = self.totals.entry(name.clone()).or_insert(0);
            if total > *known {
                grown.push((name, total - *known));
                *known = total;
            }
        }
        if !grown.is_empty() {
            if self.steps.len() >= MAX_STEPS {
                self.steps.pop_front();
            }
            self.steps.push_back(Step { from: self.read_at, to: counters.time, grown });
        }
        self.read_at = self.read_at.max(counters.time);
    }

    /// Forgets the readings before `oldest`.
    pub(super) fn expire(&mut self, oldest: Nanos) {
        while self.steps.front().is_some_and(|step| step.to < oldest) {
            self.steps.pop_front();
        }
    }

    /// Since the probes began.
    pub(super) fn totals(&self) -> &BTreeMap<String, u64> {
        &self.totals
    }

    /// What grew in a span. A reading counts as a whole if any part of the time since the one
    /// before it lies in the span: nothing that was lost in the span is missing.
    pub(super) fn grown_in(&self, from: Nanos, to: Nanos) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for step in self.steps.iter().filter(|step| step.from < to && step.to > from) {
            for (name, more) in &step.grown {
                *sum.entry(name.clone()).or_insert(0) += more;
            }
        }
        sum
    }
}

/// Puts together what the window has of a span and what the counters say was lost on the way to it.
///
/// `reported` counts what is in the window, `lost` what the counters and the window say was lost,
/// and `taken` is their sum: nothing is inferred. That the sum agrees with the probes' own
/// `samples_taken` over a whole run is for tests to show.
pub(super) fn losses(reported: u64, window: &SpanTally, counted: &BTreeMap<String, u64>) -> Losses {
    let mut losses = Losses { reported, ..Losses::default() };
    for (name, &count) in counted {
        match name.strip_prefix("samples_") {
            Some("taken") => {}
            Some(cause) => add(&mut losses.lost, cause, count),
            None if name.ends_with("_taken") => {}
            None => add(&mut losses.notes, name, count),
        }
    }
    let SpanTally { held: _, evicted, stacks_full, late } = window;
    for (cause, counts) in
        [("window_evicted", evicted), ("window_stacks_full", stacks_full), ("window_late", late)]
    {
        add(&mut losses.lost, cause, counts.cpu);
        add(&mut losses.notes, &format!("mmap_{cause}"), counts.mmap);
        add(&mut losses.notes, &format!("threads_{cause}"), counts.threads);
        add(&mut losses.notes, &format!("memory_{cause}"), counts.memory);
        add(&mut losses.notes, &format!("waits_{cause}"), counts.blocked);
    }
    losses.taken = losses.lost.values().fold(reported, |sum, &lost| sum.saturating_add(lost));
    losses
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    if count > 0 {
        let entry = counts.entry(name.to_owned()).or_insert(0);
        *entry = entry.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(second: u64, totals: &[(&str, u64)]) -> Counters {
        Counters {
            time: Nanos::from_secs(second),
            totals: totals.iter().map(|&(name, total)| (name.to_owned(), total)).collect(),
        }
    }

    fn names(grown: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
        grown.iter().map(|(name, &count)| (name.as_str(), count)).collect()
    }

    #[test]
    fn a_span_sees_what_grew_in_it_only() {
        let mut history = CounterHistory::new(Nanos::from_secs(10));
        history.read(counters(11, &[("samples_ring_full", 5)]));
        history.read(counters(12, &[("samples_ring_full", 5)]));
        history.read(counters(13, &[("samples_ring_full", 7)]));
        history.read(counters(14, &[("samples_ring_full", 3)]));
        let grown = |from, to| history.grown_in(Nanos::from_secs(from), Nanos::from_secs(to));
        assert_eq!(names(&grown(10, 11)), [("samples_ring_full", 5)]);
        assert_eq!(names(&grown(11, 12)), []);
        assert_eq!(names(&grown(10, 20)), [("samples_ring_full", 7)]);
        assert_eq!(names(&grown(13, 20)), []);
    }

    #[test]
    fn counters_and_readings_are_bounded() {
        let mut history = CounterHistory::new(Nanos(0));
        for reading in 0..2 * MAX_STEPS as u64 {
            let name = format!("samples_{}", reading % 200);
            history.read(counters(reading, &[(&name, reading)]));
        }
        assert!(history.totals.len() <= MAX_COUNTERS);
        assert!(history.steps.len() <= MAX_STEPS);
    }

    #[test]
    fn taken_is_reported_and_lost() {
        let counted =
            [("samples_taken", 999), ("samples_ring_full", 3), ("kernel_stack_failed", 2)]
                .map(|(name, count)| (name.to_owned(), count))
                .into();
        let mut window = SpanTally::default();
        window.evicted.cpu = 4;
        window.late.threads = 1;
        let losses = losses(10, &window, &counted);
        assert_eq!(losses.taken, 17);
        assert_eq!(names(&losses.lost), [("ring_full", 3), ("window_evicted", 4)]);
        assert_eq!(names(&losses.notes), [("kernel_stack_failed", 2), ("threads_window_late", 1)]);
    }
}
