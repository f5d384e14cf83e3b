//! What changed most between the time before the onset and the time since, by function.

use std::cmp::Ordering;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::function::{NO_STACK, module, with_module};
use super::shown::shown_frames;
use crate::symbolize::SymbolTable;
use crate::window::{Cut, CutSample, ProfileKind};

/// How much of a profile's value a function took per second, before and during the spike. The unit
/// is the profile's: nanoseconds of CPU time, bytes mapped, bytes touched, threads created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mover {
    /// The function; for frames without a name their file, in brackets.
    pub function: String,
    /// In the function itself, before.
    pub self_before_per_second: f64,
    /// In the function itself, during.
    pub self_during_per_second: f64,
    /// In the function and all it called, before.
    pub total_before_per_second: f64,
    /// In the function and all it called, during.
    pub total_during_per_second: f64,
}

impl Mover {
    fn self_change(&self) -> f64 {
        (self.self_during_per_second - self.self_before_per_second).abs()
    }

    fn total_change(&self) -> f64 {
        (self.total_during_per_second - self.total_before_per_second).abs()
    }
}

/// The functions that changed most, at most `limit` of them: those with the largest change of
/// their own first, then those that only called others. `whole` is the whole window, `base` its
/// part before the onset; what is in both was before.
pub fn movers(base: &Cut, whole: &Cut, symbols: &SymbolTable, limit: usize) -> Vec<Mover> {
    let before = seconds(base.to.since(base.from));
    let during = seconds(whole.to.since(base.to));
    let base = by_function(base, symbols);
    let whole = by_function(whole, symbols);
    let rate = |value: i64, seconds: f64| value as f64 / seconds;
    let mut movers: Vec<Mover> = whole
        .into_iter()
        .map(|(function, whole)| {
            let base = base.get(&function).copied().unwrap_or_default();
            let own = whole.own.saturating_sub(base.own).max(0);
            let total = whole.total.saturating_sub(base.total).max(0);
            Mover {
                function,
                self_before_per_second: rate(base.own, before),
                self_during_per_second: rate(own, during),
                total_before_per_second: rate(base.total, before),
                total_during_per_second: rate(total, during),
            }
        })
        .filter(|mover| mover.self_change() > 0.0 || mover.total_change() > 0.0)
        .collect();
    movers.sort_by(|a, b| {
        let by_self = b.self_change().total_cmp(&a.self_change());
        let by_total = || b.total_change().total_cmp(&a.total_change());
        by_self.then_with(by_total).then_with(|| -> Ordering { a.function.cmp(&b.function) })
    });
    movers.truncate(limit);
    movers
}

/// A span's length; one of no length is taken as a millisecond, so that rates stay finite.
fn seconds(span: Duration) -> f64 {
    span.as_secs_f64().max(0.001)
}

#[derive(Clone, Copy, Default)]
struct Sums {
    own: i64,
    total: i64,
}

fn by_function(cut: &Cut, symbols: &SymbolTable) -> FxHashMap<String, Sums> {
    let mut sums: FxHashMap<String, Sums> = FxHashMap::default();
    for sample in &cut.samples {
        let value = value(cut.kind, sample);
        let functions = functions(sample, symbols);
        if let Some(leaf) = functions.first() {
            let sums = sums.entry(leaf.clone()).or_default();
            sums.own = sums.own.saturating_add(value);
        }
        // A function that calls itself had the time once.
        for function in functions.into_iter().collect::<FxHashSet<String>>() {
            let sums = sums.entry(function).or_default();
            sums.total = sums.total.saturating_add(value);
        }
    }
    sums
}

/// The value that a rule is about.
fn value(kind: ProfileKind, sample: &CutSample) -> i64 {
    match kind {
        ProfileKind::Cpu | ProfileKind::Mmap | ProfileKind::Memory | ProfileKind::Blocked => {
            sample.values[1]
        }
        ProfileKind::Threads | ProfileKind::Goroutines => sample.values[0],
        ProfileKind::Allocations | ProfileKind::GoHeap => sample.values[3],
    }
}

/// The functions of a sample, leaf first, inlined ones included.
fn functions(sample: &CutSample, symbols: &SymbolTable) -> Vec<String> {
    let mut functions = Vec::new();
    for frame in shown_frames(sample, symbols) {
        match symbols.get(frame.place) {
            Some(named) => {
                functions.extend(named.lines.iter().map(|line| with_module(&line.function, named)))
            }
            None => functions.push(module(&frame)),
        }
    }
    if functions.is_empty() {
        functions.push(NO_STACK.to_owned());
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Made, cut_strategy, made};
    use super::*;
    use crate::collect::Nanos;
    use proptest::prelude::*;

    /// Of the made cut's ten seconds, the first four with only its first sample.
    fn base_of(whole: &Cut) -> Cut {
        let samples = whole.samples.iter().take(1).cloned().collect();
        Cut { kind: whole.kind, from: whole.from, to: Nanos::from_secs(4), samples }
    }

    #[test]
    fn rates_before_and_during_by_function() {
        let Made { cut, symbols } = made();
        let movers = movers(&base_of(&cut), &cut, &symbols, 10);
        let of = |function: &str| movers.iter().find(|mover| mover.function == function).unwrap();
        // spin: 20 in 4 s before, 10 in the 6 s since.
        let spin = of("spin");
        assert_eq!((spin.self_before_per_second, spin.total_before_per_second), (5.0, 5.0));
        assert_eq!(spin.self_during_per_second, 10.0 / 6.0);
        // main: only calls.
        let main = of("main");
        assert_eq!((main.self_before_per_second, main.self_during_per_second), (0.0, 0.0));
        assert_eq!(main.total_during_per_second, 50.0 / 6.0);
        assert_eq!(of("[libc.so.6]").total_during_per_second, 40.0 / 6.0);
        // helper changed from 0 to 40 in 6 s, spin from 5 to 1.7 per second.
        assert_eq!(movers[0].function, "helper [ext4]");
    }

    #[test]
    fn nothing_moves_where_nothing_changed() {
        let Made { mut cut, symbols } = made();
        cut.samples.clear();
        assert_eq!(movers(&base_of(&cut), &cut, &symbols, 10), []);
    }

    proptest! {
        #[test]
        fn own_rates_add_up_to_the_totals(made in cut_strategy()) {
            let base = base_of(&made.cut);
            let all = movers(&base, &made.cut, &made.symbols, usize::MAX);
            let seconds = seconds(made.cut.to.since(base.to));
            let sum: f64 = all.iter().map(|mover| mover.self_during_per_second * seconds).sum();
            let index = if made.cut.kind == ProfileKind::Threads { 0 } else { 1 };
            let expected = (made.cut.totals()[index] - base.totals()[index]) as f64;
            // What kept its rate is no mover: its share is missing, never too much.
            prop_assert!(sum <= expected + 1e-6 * expected.max(1.0), "{sum} of {expected}");
            prop_assert!(all.iter().all(|mover| mover.self_during_per_second >= 0.0));
        }
    }
}
