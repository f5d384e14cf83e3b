//! Which cgroups have series of their own, and what the rest adds up to.
//!
//! A host can have thousands of cgroups and a metric must not have thousands of series, so the most
//! active [`MAX_NAMED`] are named and the rest is `other`. What keeps the sums honest:
//!
//! - every increment is counted once, in the series the cgroup has when it is seen, so the sum over
//!   all series is the sum of all increments, and never goes down;
//! - a cgroup that loses its series (it is gone, or a much more active one took its place) leaves
//!   what it counted in `other`; what it counted before it got one stays there, too;
//! - a name is given before the first increments are counted, so a cgroup that is active from its
//!   beginning has its exact totals.
//!
//! Must not: know Prometheus or read a clock.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::snapshot::{CgroupActivity, CgroupSnapshot};

/// Cgroups with series of their own: a busy Kubernetes node has about this many containers that
/// matter, and eight series each stay far below what one scrape target should have.
pub(super) const MAX_NAMED: usize = 32;

/// Bytes of a label value. The end of a longer path is shown: it says more than the beginning.
const MAX_LABEL_BYTES: usize = 256;

/// What an update leaves of the activity seen before: the half-life is sixty updates, which is
/// between a minute (a scrape every second) and ten.
const DECAY: f64 = 0.9885;

/// How much more active than the least active named cgroup another one must be to take its place.
/// At 1 two similar ones would take turns, and every turn is a counter reset.
const TAKE_OVER: f64 = 2.0;

/// The number of totals in a [`CgroupActivity`].
pub(super) const TOTALS: usize = 7;

/// The totals of a [`CgroupActivity`], in the order of its fields.
pub(super) type Totals = [u64; TOTALS];

/// What a cgroup has at the time: resident bytes, goroutines.
pub(super) type Gauges = [u64; 2];

impl CgroupActivity {
    /// The totals in the order of the fields.
    pub(super) const fn totals(&self) -> Totals {
        let Self {
            samples,
            mmap_calls,
            mmap_bytes,
            brk_calls,
            brk_bytes,
            munmap_bytes,
            threads_created,
        } = *self;
        [samples, mmap_calls, mmap_bytes, brk_calls, brk_bytes, munmap_bytes, threads_created]
    }

    /// How much happened, whatever it was: events, not bytes.
    const fn events(&self) -> u64 {
        self.samples
            .saturating_add(self.mmap_calls)
            .saturating_add(self.brk_calls)
            .saturating_add(self.threads_created)
    }
}

#[derive(Debug)]
struct Entry {
    label: String,
    named: bool,
    named_by_user: bool,
    last: CgroupActivity,
    /// The part of `last` that is counted in `other`.
    in_other: Totals,
    score: f64,
    gauges: Gauges,
    /// The update that saw it last.
    seen: u64,
}

impl Entry {
    fn own(&self) -> Totals {
        subtract(self.last.totals(), self.in_other)
    }

    /// Most wanted first; the label makes the order the same on every run.
    fn rank(&self) -> (Reverse<bool>, Reverse<u64>, Reverse<u64>, &str) {
        // The score is never negative or NaN, and the bits of such floats sort as they do.
        (
            Reverse(self.named_by_user),
            Reverse(self.score.to_bits()),
            Reverse(self.gauges[0]),
            &self.label,
        )
    }
}

/// The cgroups seen last, with who of them is named. Bounded by the snapshots it is given.
#[derive(Debug, Default)]
pub(super) struct TopCgroups {
    entries: FxHashMap<u64, Entry>,
    other: Totals,
    updates: u64,
}

impl TopCgroups {
    /// Takes the next snapshot. Returns the labels whose series have to go.
    pub(super) fn update(&mut self, cgroups: &[CgroupSnapshot]) -> Vec<String> {
        self.updates += 1;
        let mut gone = Vec::new();
        for cgroup in cgroups {
            self.see(cgroup, &mut gone);
        }
        self.forget_unseen(&mut gone);
        self.give_names(&mut gone);
        for entry in self.entries.values_mut().filter(|entry| !entry.named) {
            add(&mut self.other, entry.own());
            entry.in_other = entry.last.totals();
        }
        gone
    }

    /// The named cgroups: label, totals, gauges.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, Totals, Gauges)> {
        self.entries
            .values()
            .filter(|entry| entry.named)
            .map(|entry| (entry.label.as_str(), entry.own(), entry.gauges))
    }

    /// All others together: totals, gauges.
    pub(super) fn other(&self) -> (Totals, Gauges) {
        let unnamed = self.entries.values().filter(|entry| !entry.named);
        let gauges = unnamed.fold(Gauges::default(), |sum, entry| {
            std::array::from_fn(|at| sum[at].saturating_add(entry.gauges[at]))
        });
        (self.other, gauges)
    }

    fn see(&mut self, cgroup: &CgroupSnapshot, gone: &mut Vec<String>) {
        let restarted = self
            .entries
            .get(&cgroup.id)
            .is_some_and(|entry| !is_at_least(cgroup.activity, entry.last));
        // Totals that go down are another cgroup's, with the same id.
        if restarted && let Some(entry) = self.entries.remove(&cgroup.id) {
            self.leave(entry, gone);
        }
        let entry = self.entries.entry(cgroup.id).or_insert_with(|| Entry {
            label: label(&cgroup.path),
            named: false,
            named_by_user: false,
            last: CgroupActivity::default(),
            in_other: [0; TOTALS],
            score: 0.0,
            gauges: Gauges::default(),
            seen: 0,
        });
        let events = cgroup.activity.events().saturating_sub(entry.last.events());
        entry.score = entry.score * DECAY + events as f64;
        entry.last = cgroup.activity;
        entry.named_by_user = cgroup.named_by_user;
        entry.gauges = [cgroup.resident_bytes, cgroup.goroutines];
        entry.seen = self.updates;
    }

    fn forget_unseen(&mut self, gone: &mut Vec<String>) {
        let updates = self.updates;
        let unseen: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.seen != updates)
            .map(|(&id, _)| id)
            .collect();
        for id in unseen {
            if let Some(entry) = self.entries.remove(&id) {
                self.leave(entry, gone);
            }
        }
    }

    fn leave(&mut self, entry: Entry, gone: &mut Vec<String>) {
        add(&mut self.other, entry.own());
        if entry.named {
            gone.push(entry.label);
        }
    }

    fn give_names(&mut self, gone: &mut Vec<String>) {
        let mut wanting = self.ids(|entry| !entry.named && !entry.label.is_empty());
        let mut holding = self.ids(|entry| entry.named);
        let mut free = MAX_NAMED.saturating_sub(holding.len());
        wanting.reverse();
        while let Some(id) = wanting.pop() {
            if self.is_label_taken(id) {
                continue;
            }
            if free == 0 {
                let Some(&weakest) = holding.last() else { break };
                if !self.may_take_over(id, weakest) {
                    break;
                }
                holding.pop();
                if let Some(entry) = self.entries.get_mut(&weakest) {
                    entry.named = false;
                    gone.push(entry.label.clone());
                }
                free += 1;
            }
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.named = true;
                free -= 1;
            }
        }
    }

    /// Ids of some entries, most wanted first.
    fn ids(&self, which: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let mut found: Vec<_> = self.entries.iter().filter(|(_, entry)| which(entry)).collect();
        found.sort_by(|(a_id, a), (b_id, b)| a.rank().cmp(&b.rank()).then(a_id.cmp(b_id)));
        found.into_iter().map(|(&id, _)| id).collect()
    }

    /// Two cgroups with one label: cut paths, or a restart in which the old one is still there.
    /// The second stays in `other` until the first is gone.
    fn is_label_taken(&self, id: u64) -> bool {
        let Some(wanting) = self.entries.get(&id) else { return true };
        self.entries.values().any(|entry| entry.named && entry.label == wanting.label)
    }

    fn may_take_over(&self, id: u64, weakest: u64) -> bool {
        let (Some(new), Some(old)) = (self.entries.get(&id), self.entries.get(&weakest)) else {
            return false;
        };
        match (new.named_by_user, old.named_by_user) {
            (true, false) => true,
            (false, true) => false,
            _ => new.score > old.score * TAKE_OVER + 1.0,
        }
    }
}

/// A path as a label value: bounded.
fn label(path: &str) -> String {
    if path.len() <= MAX_LABEL_BYTES {
        return path.to_owned();
    }
    const CUT: &str = "...";
    let mut start = path.len() - (MAX_LABEL_BYTES - CUT.len());
    while !path.is_char_boundary(start) {
        start += 1;
    }
    format!("{CUT}{}", &path[start..])
}

fn is_at_least(new: CgroupActivity, old: CgroupActivity) -> bool {
    new.totals().iter().zip(old.totals()).all(|(new, old)| *new >= old)
}

fn subtract(mut from: Totals, what: Totals) -> Totals {
    from.iter_mut().zip(what).for_each(|(from, what)| *from = from.saturating_sub(what));
    from
}

fn add(to: &mut Totals, what: Totals) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to = to.saturating_add(what));
}

#[cfg(test)]
mod tests;
