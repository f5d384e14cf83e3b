//! The look-back window: one-second buckets in order of time, under a memory cap.
//!
//! Must not: know targets. Who asks for a cut says which owners it wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holmes_common::record::flag;

use super::bucket::{Bucket, CellKey};
use super::cut::{Detail, Owner, ProfileKind};
use super::intern::Interner;
use super::owner::Owners;
use super::resident::Residents;
use super::sample::{Fate, detail, sample};
use super::sites::{Site, Unused};
use super::stats::WindowStats;
use super::tally::Tallies;
use super::threads::Ledger;
use super::timeline;
use super::waits::{Waiting, Waits};
use crate::collect::{Nanos, Observation, Stack, What};
use crate::process::Attributed;
use crate::settings::WindowSettings;

/// The longest span a window has, in seconds: one hour. Every second costs a bucket and a tally.
pub const MAX_SPAN_SECONDS: u64 = 3600;

/// The share of the memory cap that each ledger may take: one part in this many. The ledgers outlive
/// the buckets, so they must leave room for them.
const LEDGER_SHARE: usize = 4;

pub(super) const NANOS_PER_SECOND: u64 = 1_000_000_000;

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
    pub(super) buckets: BTreeMap<u64, Bucket>,
    bucket_bytes: usize,
    evicted_buckets: u64,
    /// Seconds before this one have left the window by age.
    oldest: u64,
    /// Seconds before this one have been evicted early.
    evicted_before: u64,
    pub(super) tallies: Tallies,
    pub(super) threads: Ledger,
    pub(super) residents: Residents,
    pub(super) waits: Waits,
    pub(super) timeline: timeline::Ring,
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
            threads: Ledger::new(settings.max_bytes / LEDGER_SHARE),
            residents: Residents::new(settings.max_bytes / LEDGER_SHARE),
            waits: Waits::new(settings.max_bytes / LEDGER_SHARE),
            timeline: timeline::Ring::new(settings.timeline_bytes),
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
        self.follow(&observation);
        let Some((kind, values)) = sample(observation.what, self.sample_period_ns) else {
            // Ended threads are remembered for a while: that costs memory, too.
            self.keep_under_cap();
            return Fate::NotProfiled;
        };
        self.advance(observation.time);
        let owner = Owner::of(&observation, cgroup, image);
        let second = observation.time.second();
        let Observation { what, tgid, tid, time, cpu, flags, stack, .. } = observation;
        let detail = detail(what);
        let mut fate =
            self.place(second, (kind, detail), owner, stack, values, |this, site| match what {
                What::NewThread { tid: new } => this.hold_for(&site, |this, unused| {
                    this.threads.created(new, tgid, time, site.clone(), unused)
                }),
                What::CpuSample => this.draw_sample(tid, site, time, cpu),
                What::Wait { waits, number, cause, lock } => {
                    let follows_others = flags & flag::WAITS_LEFT_OUT != 0;
                    let which = (waits, number, follows_others);
                    let waiting = Waiting::new(time, which, (cause, lock), site);
                    this.wait_began(tid, waiting);
                }
                What::Blocked { since, number, cause, lock } => {
                    this.wait_found(tid, Waiting::found(since, number, (cause, lock), site));
                }
                What::Fault { address, bytes, memory } => {
                    let page = (time, bytes, memory);
                    this.hold_for(&site, |this, unused| {
                        this.residents.touched(tgid, address, page, site.clone(), unused)
                    });
                }
                _ => {}
            });
        self.tallies.count(second, kind, fate);
        self.keep_under_cap();
        if fate == Fate::Held && second < self.evicted_before {
            fate = Fate::Evicted;
        }
        fate
    }

    /// Tells the ledgers what ended, began or was given back.
    fn follow(&mut self, observation: &Observation) {
        let Observation { tgid, tid, time, cpu, .. } = *observation;
        if !matches!(
            observation.what,
            What::Wait { .. } | What::Blocked { .. } | What::WaitEnd { .. }
        ) {
            self.wait_contradicted(tid, time);
        }
        let mut unused = Unused::new();
        match observation.what {
            What::WaitEnd { number } => self.wait_ended(tid, time, number, cpu),
            What::NewThread { tid: new } => self.wait_forgotten(new),
            What::Exit => {
                self.draw_end(tid, time, observation.flags);
                self.threads.end(tid, time, &mut unused);
                if observation.flags & flag::LAST_THREAD != 0 {
                    self.residents.ended(tgid, time);
                }
            }
            What::Exec => {
                self.threads.end_process(tgid, time, &mut unused);
                self.residents.executed(tgid, &mut unused);
            }
            What::NewProcess { tgid: child } => {
                // Whoever had these ids before is gone, even if the record that said so was lost.
                self.wait_forgotten(child);
                self.threads.end(child, time, &mut unused);
                self.threads.end_process(child, time, &mut unused);
                self.residents.forked(tgid, child, time, &mut unused);
            }
            What::Released { start, bytes } => {
                self.residents.released(tgid, start, bytes, &mut unused);
            }
            What::Moved { from, to, bytes } => {
                self.residents.moved(tgid, [from, to, bytes], &mut unused);
            }
            _ => {}
        }
        self.release(unused);
    }

    /// Puts values into their cell, and hands the cell's owner and stack to `then`.
    fn place(
        &mut self,
        second: u64,
        (kind, detail): (ProfileKind, Detail),
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
                while self.stacks.len() >= self.max_stacks {
                    if self.shorten_timeline() {
                        continue;
                    }
                    if !self.has_before_newest(second) {
                        break;
                    }
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
        let key = CellKey { kind, owner: owner.clone(), stack: stack.clone(), detail };
        self.add(second, key, values);
        then(self, Site { owner, stack });
        Fate::Held
    }

    /// The first second that values may still be added to.
    pub(super) fn first_second(&self) -> u64 {
        self.oldest.max(self.evicted_before)
    }

    /// Adds values to a second that is not over for the window.
    pub(super) fn add(&mut self, second: u64, key: CellKey, values: [i64; 2]) {
        let site = Site { owner: key.owner.clone(), stack: key.stack.clone() };
        let bucket = self.buckets.entry(second).or_insert_with(|| {
            let bucket = Bucket::new();
            self.bucket_bytes += bucket.bytes();
            bucket
        });
        let before = bucket.bytes();
        let is_new = bucket.add(key, values);
        self.bucket_bytes = self.bucket_bytes - before + bucket.bytes();
        if is_new {
            self.hold(&site);
        }
    }

    /// Whether there is a bucket before the newest, which an observation of `second` may yet begin.
    fn has_before_newest(&self, second: u64) -> bool {
        let newest = self.buckets.last_key_value().map_or(second, |(&last, _)| last.max(second));
        self.buckets.first_key_value().is_some_and(|(&first, _)| first < newest)
    }

    /// Holds a site for a ledger, unless that does not `keep` it or had it already.
    pub(super) fn hold_for(
        &mut self,
        site: &Site,
        keep: impl FnOnce(&mut Self, &mut Unused) -> bool,
    ) {
        let mut unused = Unused::new();
        // Held before the ledger lets others go: the site may be among them.
        self.hold(site);
        if !keep(self, &mut unused) {
            unused.push(site.clone());
        }
        self.release(unused);
    }

    /// The processes whose memory is followed and whose owner `wanted` names, with the addresses at
    /// which pages are taken to be in use: for whoever looks whether they are.
    pub fn resident_pages(&self, wanted: &dyn Fn(&Owner) -> bool) -> Vec<(u32, Vec<u64>)> {
        self.residents.addresses(|_, site| wanted(site.owner.value()))
    }

    /// Whose memory a process's last known page is.
    pub fn owner_of_pages(&self, tgid: u32) -> Option<&Owner> {
        self.residents.site_of(tgid).map(|site| site.owner.value())
    }

    /// These pages of a process were looked for, and are not in place.
    pub fn pages_gone(&mut self, tgid: u32, addresses: &[u64]) {
        let mut unused = Unused::new();
        self.residents.gone(tgid, addresses, &mut unused);
        self.release(unused);
    }

    /// So many bytes of a process are resident, anonymous ones, and those of files and shared memory: it
    /// has no more in use.
    pub fn resident(&mut self, tgid: u32, bytes: [u64; 2]) {
        let mut unused = Unused::new();
        self.residents.fit(tgid, bytes, &mut unused);
        self.release(unused);
    }

    pub(super) fn hold(&mut self, site: &Site) {
        self.owners.hold(&site.owner);
        self.stacks.hold(&site.stack);
    }

    pub(super) fn release(&mut self, unused: Unused) {
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
        self.threads.expire(now, &mut unused);
        self.residents.expire(now, &mut unused);
        self.timeline.expire(start_of(oldest), &mut unused);
        self.release(unused);
        self.shrink();
    }

    fn keep_under_cap(&mut self) {
        while self.bytes() > self.max_bytes && self.shorten_timeline() {}
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
        self.stacks.bytes()
            + self.owners.bytes()
            + self.bucket_bytes
            + self.threads.bytes()
            + self.residents.bytes()
            + self.waits.bytes()
            + self.timeline.bytes()
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
            threads: self.threads.stats(),
            residents: self.residents.stats(),
            waits: self.waits.stats(),
            timeline: self.timeline.stats(),
        }
    }

    /// The first moment that the window still reaches back to.
    pub fn reach(&self) -> Nanos {
        start_of(self.oldest)
    }
}

/// The first moment of a second. The last second of the clock begins before its end.
pub(super) fn start_of(second: u64) -> Nanos {
    Nanos(second.saturating_mul(NANOS_PER_SECOND))
}
