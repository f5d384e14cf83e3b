//! The look-back window: one-second buckets in order of time, under a memory cap.
//!
//! Must not: know targets. Who asks for a cut says which owners it wants.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use holmes_common::record::flag;

use super::bucket::{Bucket, CellKey};
use super::cut::{Cut, CutSample, Owner, ProfileKind, Values, pair, sum};
use super::intern::{Interned, Interner};
use super::owner::Owners;
use super::sample::{Fate, sample};
use super::stats::WindowStats;
use super::tally::{SpanTally, Tallies};
use super::threads::{Ledger, Site, Unused};
use crate::collect::{Nanos, Stack, What};
use crate::process::Attributed;
use crate::settings::WindowSettings;

/// The longest span a window has, in seconds: one hour. Every second costs a bucket and a tally.
pub const MAX_SPAN_SECONDS: u64 = 3600;

/// The share of the memory cap that the thread ledger may take: one part in this many. The ledger
/// outlives the buckets, so it must leave room for them.
const LEDGER_SHARE: usize = 4;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The last minutes of observations.
///
/// The memory cap holds after every call: buckets fall out, oldest first, until everything that is
/// kept for each stack, owner, bucket and thread fits. What it does not count is a fixed cost: a
/// few hundred bytes for each second of the span.
#[derive(Debug)]
pub struct Window {
    span_seconds: u64,
    max_bytes: usize,
    max_stacks: usize,
    sample_period_ns: u64,
    stacks: Interner<Stack>,
    owners: Owners,
    buckets: BTreeMap<u64, Bucket>,
    bucket_bytes: usize,
    evicted_buckets: u64,
    /// Seconds before this one have left the window by age.
    oldest: u64,
    /// Seconds before this one have been evicted early.
    evicted_before: u64,
    tallies: Tallies,
    ledger: Ledger,
}

impl Window {
    /// An empty window. `sample_period_ns` is the CPU time in nanoseconds that a sample stands for.
    pub fn new(settings: &WindowSettings, sample_period_ns: u64) -> Self {
        let mut window = Self {
            span_seconds: 1,
            max_bytes: settings.max_bytes,
            max_stacks: settings.max_stacks,
            sample_period_ns,
            stacks: Interner::default(),
            owners: Owners::default(),
            buckets: BTreeMap::new(),
            bucket_bytes: 0,
            evicted_buckets: 0,
            oldest: 0,
            evicted_before: 0,
            tallies: Tallies::default(),
            ledger: Ledger::new(settings.max_bytes / LEDGER_SHARE),
        };
        window.set_span(settings.span);
        window
    }

    /// How far back the window reaches from now on: whole seconds, at least one and at most
    /// [`MAX_SPAN_SECONDS`].
    pub fn set_span(&mut self, span: Duration) {
        let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
        self.span_seconds = seconds.clamp(1, MAX_SPAN_SECONDS);
    }

    /// Takes an observation in, and says what became of it. Its time may move the window on.
    pub fn observe(&mut self, attributed: Attributed) -> Fate {
        let Attributed { observation, image, cgroup } = attributed;
        let mut unused = Unused::new();
        match observation.what {
            What::Exit => self.ledger.end(observation.tid, observation.time, &mut unused),
            What::Exec => self.ledger.end_process(observation.tgid, observation.time, &mut unused),
            What::NewProcess { tgid } => {
                // Whoever had these ids before is gone, even if the record that said so was lost.
                self.ledger.end(tgid, observation.time, &mut unused);
                self.ledger.end_process(tgid, observation.time, &mut unused);
            }
            _ => {}
        }
        self.release(unused);
        let Some((kind, values)) = sample(observation.what, self.sample_period_ns) else {
            // Ended threads are remembered for a while: that costs memory, too.
            self.keep_under_cap();
            return Fate::NotProfiled;
        };
        self.advance(observation.time);
        let owner = Owner {
            tgid: observation.tgid,
            comm: observation.comm,
            cgroup,
            image,
            recorder: observation.flags & flag::RECORDER != 0,
        };
        let second = observation.time.second();
        let mut fate = self.place(second, kind, owner, observation.stack, values, |this, site| {
            if let What::NewThread { tid } = observation.what {
                this.thread_created(tid, observation.tgid, observation.time, site);
            }
        });
        self.tallies.count(second, kind, fate);
        self.keep_under_cap();
        if fate == Fate::Held && second < self.evicted_before {
            fate = Fate::Evicted;
        }
        fate
    }

    /// Puts values into their cell, and hands the cell's owner and stack to `then`.
    fn place(
        &mut self,
        second: u64,
        kind: ProfileKind,
        owner: Owner,
        stack: Arc<Stack>,
        values: [i64; 2],
        then: impl FnOnce(&mut Self, Site),
    ) -> Fate {
        if second < self.oldest {
            return Fate::Late;
        }
        if second < self.evicted_before {
            return Fate::Evicted;
        }
        let stack = match self.stacks.find(&stack) {
            Some(known) => known,
            None => {
                while self.stacks.len() >= self.max_stacks && self.has_before_newest(second) {
                    self.evict_oldest();
                }
                if self.stacks.len() >= self.max_stacks {
                    return Fate::StacksFull;
                }
                if second < self.evicted_before {
                    return Fate::Evicted;
                }
                self.stacks.insert(stack)
            }
        };
        let owner = self.owners.intern(owner);
        let bucket = self.buckets.entry(second).or_insert_with(|| {
            let bucket = Bucket::new();
            self.bucket_bytes += bucket.bytes();
            bucket
        });
        let before = bucket.bytes();
        let key = CellKey { kind, owner: owner.clone(), stack: stack.clone() };
        let is_new = bucket.add(key, values);
        self.bucket_bytes = self.bucket_bytes - before + bucket.bytes();
        if is_new {
            self.owners.hold(&owner);
            self.stacks.hold(&stack);
        }
        then(self, Site { owner, stack });
        Fate::Held
    }

    /// Whether there is a bucket before the newest, which an observation of `second` may yet begin.
    fn has_before_newest(&self, second: u64) -> bool {
        let newest = self.buckets.last_key_value().map_or(second, |(&last, _)| last.max(second));
        self.buckets.first_key_value().is_some_and(|(&first, _)| first < newest)
    }

    fn thread_created(&mut self, tid: u32, tgid: u32, time: Nanos, site: Site) {
        let mut unused = Unused::new();
        // Held before the ledger lets others go: the site may be among them.
        self.hold(&site);
        if !self.ledger.created(tid, tgid, time, site.clone(), &mut unused) {
            unused.push(site);
        }
        self.release(unused);
    }

    fn hold(&mut self, site: &Site) {
        self.owners.hold(&site.owner);
        self.stacks.hold(&site.stack);
    }

    fn release(&mut self, unused: Unused) {
        for site in unused {
            self.owners.release(&site.owner);
            self.stacks.release(&site.stack);
        }
    }

    /// Moves the window on to `now`: what is older than its span leaves it.
    pub fn advance(&mut self, now: Nanos) {
        let oldest = (now.second() + 1).saturating_sub(self.span_seconds);
        if oldest <= self.oldest {
            return;
        }
        self.oldest = oldest;
        while let Some((&second, _)) = self.buckets.first_key_value() {
            if second >= oldest {
                break;
            }
            self.remove_oldest();
        }
        self.tallies.expire(oldest);
        let mut unused = Unused::new();
        self.ledger.expire(now, &mut unused);
        self.release(unused);
        self.shrink();
    }

    fn keep_under_cap(&mut self) {
        while self.bytes() > self.max_bytes && !self.buckets.is_empty() {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        if let Some(second) = self.remove_oldest() {
            self.evicted_before = second + 1;
            self.evicted_buckets += 1;
            self.tallies.evict(second);
            self.shrink();
        }
    }

    fn remove_oldest(&mut self) -> Option<u64> {
        let (second, bucket) = self.buckets.pop_first()?;
        self.bucket_bytes -= bucket.bytes();
        for key in bucket.into_keys() {
            self.owners.release(&key.owner);
            self.stacks.release(&key.stack);
        }
        Some(second)
    }

    fn shrink(&mut self) {
        self.stacks.shrink();
        self.owners.shrink();
    }

    /// Memory of everything that the cap covers, in bytes.
    pub fn bytes(&self) -> usize {
        self.stacks.bytes() + self.owners.bytes() + self.bucket_bytes + self.ledger.bytes()
    }

    /// What the window holds and has lost.
    pub fn stats(&self) -> WindowStats {
        WindowStats {
            bytes: self.bytes(),
            max_bytes: self.max_bytes,
            stacks: self.stacks.len(),
            max_stacks: self.max_stacks,
            owners: self.owners.len(),
            buckets: self.buckets.len(),
            span_seconds: self.span_seconds,
            evicted_buckets: self.evicted_buckets,
            observations: self.tallies.total(),
            evicted_later: self.tallies.evicted_later(),
            threads: self.ledger.stats(),
        }
    }

    /// The first moment that the window still reaches back to.
    pub fn reach(&self) -> Nanos {
        start_of(self.oldest)
    }

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
    /// The threads profile counts as alive who was created before `to` and lives at `to`.
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
        let mut values: HashMap<(&Interned<Owner>, &Interned<Stack>), Values> = HashMap::new();
        let mut add = |owner, stack, more| {
            let entry = values.entry((owner, stack)).or_default();
            *entry = sum(*entry, more);
        };
        if first < behind {
            for bucket in self.buckets.range(first..behind).map(|(_, bucket)| bucket) {
                for (key, more) in bucket.cells(kind) {
                    if wanted(key.owner.value()) {
                        add(&key.owner, &key.stack, pair(more));
                    }
                }
            }
        }
        if kind == ProfileKind::Threads {
            for site in self.ledger.alive(start_of(behind), start_of(seconds(onset, end).1)) {
                if wanted(site.owner.value()) {
                    add(&site.owner, &site.stack, pair([0, 1]));
                }
            }
        }
        let mut samples: Vec<CutSample> = values
            .into_iter()
            .map(|((owner, stack), values)| CutSample {
                owner: owner.share(),
                stack: stack.share(),
                values,
            })
            .collect();
        // The tables' order depends on their hash seeds; this one only on what was observed.
        samples.sort_unstable_by(|left, right| {
            let stacks = || {
                (&left.stack.user, &left.stack.kernel)
                    .cmp(&(&right.stack.user, &right.stack.kernel))
            };
            left.owner.cmp(&right.owner).then_with(stacks)
        });
        Cut { kind, from: start_of(first), to: start_of(behind), samples }
    }
}

/// The whole seconds that `from..to` touches: the first, and the one behind the last.
fn seconds(from: Nanos, to: Nanos) -> (u64, u64) {
    (from.second(), to.0.div_ceil(NANOS_PER_SECOND))
}

/// The first moment of a second. The last second of the clock begins before its end.
fn start_of(second: u64) -> Nanos {
    Nanos(second.saturating_mul(NANOS_PER_SECOND))
}
