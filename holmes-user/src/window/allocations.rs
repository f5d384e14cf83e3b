//! The ledger of sampled allocations: what was allocated where, and what of it is in use.
//!
//! Must not: know how allocations are sampled beyond what a sample stands for. It stands in for the
//! window where one process is recorded for a bounded time: nothing falls out of it.

use std::collections::HashMap;
use std::sync::Arc;

use holmes_common::limits::MAX_LIVE_ALLOCATIONS;

use super::cut::{Cut, CutSample, Detail, Owner, ProfileKind};
use crate::collect::{Nanos, Stack, What};
use crate::process::Attributed;

/// Owners with a stack that are told apart: as many as the window has stacks, 300 MiB of the deepest.
const MAX_SITES: usize = 1 << 17;

/// Allocations in use at the same time: twice what the probes remember, because what they could not
/// say was given back stays here.
const MAX_LIVE: usize = 2 * MAX_LIVE_ALLOCATIONS as usize;

/// Parts of an object that are counted: a sample stands for any number of objects, not a whole one.
const PARTS: u64 = 1 << 12;

/// What the ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationStats {
    /// Sampled allocations in the ledger.
    pub reported: u64,
    /// Sampled allocations lost because the ledger was full.
    pub full: u64,
    /// Allocations that were taken to be given back only because their address was allocated again.
    pub given_back_unseen: u64,
}

/// Where allocations were made.
#[derive(Debug)]
struct Site {
    owner: Arc<Owner>,
    stack: Arc<Stack>,
    made: Amount,
    in_use: Amount,
}

/// Objects (in parts of one) and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    parts: u64,
    bytes: u64,
}

impl Amount {
    /// What a sample of an allocation stands for.
    fn of(bytes: u64, intervals: u8, interval: u64) -> Self {
        if intervals == 0 {
            return Self { parts: PARTS, bytes };
        }
        let stands_for = u64::from(intervals).saturating_mul(interval);
        // Both are less than 2^41, so the product fits.
        Self { parts: stands_for.saturating_mul(PARTS) / bytes.max(1), bytes: stands_for }
    }

    fn add(&mut self, other: Self) {
        self.parts = self.parts.saturating_add(other.parts);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn take(&mut self, other: Self) {
        self.parts = self.parts.saturating_sub(other.parts);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    /// Objects and bytes, as the values of a sample.
    fn values(self) -> [i64; 2] {
        let objects = self.parts.saturating_add(PARTS / 2) / PARTS;
        [objects, self.bytes].map(|value| i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// What was allocated since a recording began.
#[derive(Debug)]
pub struct AllocationLedger {
    interval: u64,
    sites: Vec<Site>,
    /// Places in `sites`.
    places: HashMap<(Arc<Owner>, Arc<Stack>), usize>,
    /// Allocations in use by address: the place in `sites`, and what the sample stands for.
    live: HashMap<u64, (usize, Amount)>,
    stats: AllocationStats,
}

impl AllocationLedger {
    /// An empty ledger of allocations that are sampled at one in `interval` bytes.
    pub fn new(interval: u64) -> Self {
        Self {
            interval,
            sites: Vec::new(),
            places: HashMap::new(),
            live: HashMap::new(),
            stats: AllocationStats::default(),
        }
    }

    /// Takes an observation in, in the order of the facts. What is not about allocations changes
    /// nothing.
    pub fn observe(&mut self, attributed: Attributed) {
        match attributed.observation.what {
            What::Allocation { address, bytes, intervals } => {
                let amount = Amount::of(bytes, intervals, self.interval);
                // An address is given twice only if it was given back, whether or not that was seen.
                if self.free(address) {
                    self.stats.given_back_unseen += 1;
                }
                self.allocated(attributed, address, amount);
            }
            What::Free { address } => {
                // An allocation that was lost on its way here, maybe.
                self.free(address);
            }
            _ => {}
        }
    }

    fn allocated(&mut self, attributed: Attributed, address: u64, amount: Amount) {
        let Attributed { observation, image, cgroup } = attributed;
        let owner = Owner::of(&observation, cgroup, image);
        let known = (Arc::new(owner), observation.stack);
        let place = self.places.get(&known).copied();
        if self.live.len() >= MAX_LIVE || place.is_none() && self.sites.len() >= MAX_SITES {
            self.stats.full += 1;
            return;
        }
        let place = place.unwrap_or_else(|| {
            let (owner, stack) = (Arc::clone(&known.0), Arc::clone(&known.1));
            let (made, in_use) = (Amount::default(), Amount::default());
            self.sites.push(Site { owner, stack, made, in_use });
            self.places.insert(known, self.sites.len() - 1);
            self.sites.len() - 1
        });
        if let Some(site) = self.sites.get_mut(place) {
            site.made.add(amount);
            site.in_use.add(amount);
            self.live.insert(address, (place, amount));
            self.stats.reported += 1;
        }
    }

    /// Says whether this was in use.
    fn free(&mut self, address: u64) -> bool {
        let Some((place, amount)) = self.live.remove(&address) else { return false };
        if let Some(site) = self.sites.get_mut(place) {
            site.in_use.take(amount);
        }
        true
    }

    /// What was counted so far.
    pub fn stats(&self) -> AllocationStats {
        self.stats
    }

    /// All of it, as the cut of a recording `from..to`.
    pub fn cut(&self, from: Nanos, to: Nanos) -> Cut {
        let sample = |site: &Site| {
            let ([objects, bytes], [live, live_bytes]) = (site.made.values(), site.in_use.values());
            CutSample {
                owner: Arc::clone(&site.owner),
                stack: Arc::clone(&site.stack),
                detail: Detail::None,
                labels: Vec::new(),
                values: [objects, bytes, live, live_bytes],
            }
        };
        let mut samples: Vec<CutSample> = self.sites.iter().map(sample).collect();
        // The order of arrival depends on how threads were scheduled.
        samples.sort_unstable_by(|left, right| {
            let stack = |sample: &CutSample| Arc::clone(&sample.stack);
            let (one, other) = (stack(left), stack(right));
            left.owner
                .cmp(&right.owner)
                .then_with(|| (&one.user, &one.kernel).cmp(&(&other.user, &other.kernel)))
        });
        Cut { kind: ProfileKind::Allocations, from, to, samples }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::testing::Process;
    use super::*;

    const INTERVAL: u64 = 1000;

    fn ledger() -> AllocationLedger {
        AllocationLedger::new(INTERVAL)
    }

    fn made(stack: u64, address: u64, bytes: u64, intervals: u8) -> Attributed {
        let what = What::Allocation { address, bytes, intervals };
        Process::new(7, "/app").does(7, 1_000, &[stack], what)
    }

    fn freed(address: u64) -> Attributed {
        Process::new(7, "/app").does(8, 1_000, &[], What::Free { address })
    }

    /// The values by the leaf of the stack.
    fn values(ledger: &AllocationLedger) -> BTreeMap<u64, [i64; 4]> {
        let cut = ledger.cut(Nanos(0), Nanos(1));
        cut.samples.iter().map(|sample| (sample.stack.user[0], sample.values)).collect()
    }

    #[test]
    fn a_sample_stands_for_its_interval_and_a_large_one_for_itself() {
        let mut ledger = ledger();
        ledger.observe(made(1, 0x10, 40, 1));
        ledger.observe(made(1, 0x20, 40, 2));
        ledger.observe(made(2, 0x30, 123_456, 0));
        // 700 bytes are sampled in 7 of 10 cases, and then stand for 1.43 objects.
        for address in 0..7 {
            ledger.observe(made(3, 0x100 + address, 700, 1));
        }
        assert_eq!(
            values(&ledger),
            BTreeMap::from([
                (1, [75, 3_000, 75, 3_000]),
                (2, [1, 123_456, 1, 123_456]),
                (3, [10, 7_000, 10, 7_000]),
            ])
        );
    }

    #[test]
    fn what_is_given_back_is_not_in_use() {
        let mut ledger = ledger();
        ledger.observe(made(1, 0x10, 50, 1));
        ledger.observe(made(1, 0x20, 50, 1));
        ledger.observe(freed(0x10));
        ledger.observe(freed(0x10));
        ledger.observe(freed(0x99));
        assert_eq!(values(&ledger), BTreeMap::from([(1, [40, 2_000, 20, 1_000])]));
        // The record that 0x20 was given back is lost: the next one there says so.
        ledger.observe(made(2, 0x20, 50, 1));
        assert_eq!(
            values(&ledger),
            BTreeMap::from([(1, [40, 2_000, 0, 0]), (2, [20, 1_000, 20, 1_000])])
        );
        let stats = AllocationStats { reported: 3, full: 0, given_back_unseen: 1 };
        assert_eq!(ledger.stats(), stats);
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut ledger = ledger();
        let flood = MAX_LIVE as u64 + 10;
        for address in 1..=flood {
            ledger.observe(made(address, address, 1, 1));
        }
        assert!(ledger.sites.len() <= MAX_SITES && ledger.live.len() <= MAX_LIVE);
        assert_eq!(ledger.stats().reported + ledger.stats().full, flood);
        assert!(ledger.stats().full >= 10);
    }

    proptest! {
        #[test]
        fn in_use_is_never_more_than_was_made_and_nothing_in_the_end(
            steps in prop::collection::vec(
                (0u64..20, any::<bool>(), 0u64..4, any::<u64>(), any::<u8>()),
                0..200,
            ),
        ) {
            let mut ledger = ledger();
            for (address, free, stack, bytes, intervals) in steps {
                ledger.observe(
                    if free { freed(address) } else { made(stack, address, bytes, intervals) },
                );
                for [objects, bytes, live, live_bytes] in values(&ledger).into_values() {
                    prop_assert!(0 <= live && live <= objects);
                    prop_assert!(0 <= live_bytes && live_bytes <= bytes);
                }
            }
            for address in 0..20 {
                ledger.observe(freed(address));
            }
            prop_assert!(ledger.live.is_empty());
        }
    }
}
