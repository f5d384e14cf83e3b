//! Pieces of the window: what became of a span's observations, its values by second, and its cuts.
//!
//! Must not: change the window.

use std::collections::HashMap;

use super::cut::{Cut, CutSample, Detail, Owner, ProfileKind, Values, pair, sum};
use super::intern::Interned;
use super::resident::InUse;
use super::ring::{MAX_SPAN_SECONDS, NANOS_PER_SECOND, Window, start_of};
use super::sample::pages;
use super::tally::SpanTally;
use crate::collect::{Nanos, Stack};

impl Window {
    /// What became of the observations of the whole seconds in `from..to`.
    pub fn tally(&self, from: Nanos, to: Nanos) -> SpanTally {
        let (from, to) = seconds(from, to);
        self.tallies.span(from, to)
    }

    /// The two values of each whole second in `from..to`, of the owners that `wanted` names.
    pub fn series(
        &self,
        kind: ProfileKind,
        wanted: &dyn Fn(&Owner) -> bool,
        from: Nanos,
        to: Nanos,
    ) -> Vec<[i64; 2]> {
        let (from, to) = seconds(from, to);
        (from..to.min(from.saturating_add(MAX_SPAN_SECONDS)))
            .map(|second| {
                let Some(bucket) = self.buckets.get(&second) else { return [0, 0] };
                bucket
                    .cells(kind)
                    .filter(|(key, _)| wanted(key.owner.value()))
                    .fold([0, 0], |total, (_, values)| sum(total, values))
            })
            .collect()
    }

    /// The samples of one kind in the whole seconds from the one `from` lies in up to `to`, of the
    /// owners that `wanted` names.
    ///
    /// The threads profile counts as alive who was created before `to` and lives at `to`. The memory
    /// profile counts as in use what was touched before `to`, however long ago, by a process that lives
    /// at `to`, and is in use now. The profile of waits has the time of those that go on until `to`, since the
    /// moment they began.
    pub fn cut(
        &self,
        kind: ProfileKind,
        wanted: &dyn Fn(&Owner) -> bool,
        from: Nanos,
        to: Nanos,
    ) -> Cut {
        self.cut_base(kind, wanted, from, to, to)
    }

    /// The part before `onset` of a cut that ends at `end`: the same cut's values, or less, for
    /// each sample, so that the difference of the two is never negative.
    ///
    /// For this, the threads profile counts as alive who was created before `onset` and lives at
    /// `end`: threads of the time before that have ended since are in neither profile's "alive".
    pub fn cut_base(
        &self,
        kind: ProfileKind,
        wanted: &dyn Fn(&Owner) -> bool,
        from: Nanos,
        onset: Nanos,
        end: Nanos,
    ) -> Cut {
        let (first, behind) = seconds(from, onset);
        let mut values: HashMap<(&Interned<Owner>, &Interned<Stack>, Detail), Values> =
            HashMap::new();
        let mut add = |owner, stack, detail, more| {
            let entry = values.entry((owner, stack, detail)).or_default();
            *entry = sum(*entry, more);
        };
        if first < behind {
            for bucket in self.buckets.range(first..behind).map(|(_, bucket)| bucket) {
                for (key, more) in bucket.cells(kind) {
                    if wanted(key.owner.value()) {
                        add(&key.owner, &key.stack, key.detail, pair(more));
                    }
                }
            }
        }
        if kind == ProfileKind::Threads {
            for site in self.threads.alive(start_of(behind), start_of(seconds(onset, end).1)) {
                if wanted(site.owner.value()) {
                    add(&site.owner, &site.stack, Detail::None, pair([0, 1]));
                }
            }
        }
        if kind == ProfileKind::Memory {
            for InUse { site, bytes, memory } in self.residents.in_use(start_of(behind), end) {
                if wanted(site.owner.value()) {
                    let space = i64::try_from(bytes).unwrap_or(i64::MAX);
                    let values = [0, 0, pages(bytes, memory), space];
                    add(&site.owner, &site.stack, Detail::Memory(memory), values);
                }
            }
        }
        if kind == ProfileKind::Blocked {
            for waiting in self.waits.under_way() {
                let (site, time) = (waiting.site(), waiting.time_in(from, onset));
                if time == 0 || !wanted(site.owner.value()) {
                    continue;
                }
                // Its beginning is counted among those that are over.
                let began = waiting.since().second();
                let is_counted = waiting.began_in_sight()
                    && (first.max(self.first_second())..behind).contains(&began);
                let waits = if is_counted { waiting.waits() } else { 0 };
                let time = i64::try_from(time).unwrap_or(i64::MAX);
                let detail = waiting.detail(from, end);
                add(&site.owner, &site.stack, detail, pair([waits, time]));
                add(&site.owner, &site.stack, waiting.plain_detail(), pair([-waits, 0]));
            }
        }
        let mut samples: Vec<CutSample> = values
            .into_iter()
            .map(|((owner, stack, detail), values)| CutSample {
                owner: owner.share(),
                stack: stack.share(),
                detail,
                labels: Vec::new(),
                values,
            })
            .collect();
        samples.retain(|sample| sample.values.iter().any(|value| *value != 0));
        // The tables' order depends on their hash seeds; this one only on what was observed.
        samples.sort_unstable_by(|left, right| {
            let stacks = || {
                (&left.stack.user, &left.stack.kernel)
                    .cmp(&(&right.stack.user, &right.stack.kernel))
            };
            let details = || left.detail.cmp(&right.detail);
            left.owner.cmp(&right.owner).then_with(stacks).then_with(details)
        });
        Cut { kind, from: start_of(first), to: start_of(behind), samples }
    }
}

/// The whole seconds that `from..to` touches: the first, and the one behind the last.
fn seconds(from: Nanos, to: Nanos) -> (u64, u64) {
    (from.second(), to.0.div_ceil(NANOS_PER_SECOND))
}
