//! The ledger of waits: which threads wait, since when, and with which stack.
//!
//! Must not: count how often threads wait (the buckets do). A wait lasts until its thread gets the CPU
//! again. What it has taken is added to every second that it lay in, when it ends, or when a profile is
//! cut: so a second's time is that second's, however long the wait.

use std::collections::BTreeSet;
use std::mem::size_of;

use rustc_hash::FxHashMap;

use super::bucket::CellKey;
use super::cut::{Detail, Owner, ProfileKind};
use super::intern::table_bytes;
use super::ring::{NANOS_PER_SECOND, Window};
use super::sites::{Site, Sites, Unused};
use crate::collect::{Nanos, WaitCause};
use crate::process::LockHolder;

/// Waits under way at the same time: as many threads as the thread ledger follows.
const MAX_WAITING: usize = 65_536;

/// Bytes that one wait occupies in the table, doubled because a growing table doubles.
const WAIT_BYTES: usize = 2 * (size_of::<(u32, Waiting)>() + 1);

/// What the ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitStats {
    /// Under way now.
    pub waiting: usize,
    /// Waits that were not followed, because the ledger was full: their time is in no profile.
    pub untracked: u64,
    /// Waits whose end was not seen: from when that is known on, their time is in no profile.
    pub unended: u64,
}

/// A wait under way.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    since: Nanos,
    /// Whether it was seen to begin, and was counted then.
    began_in_sight: bool,
    /// How many waits it stands for.
    waits: u64,
    /// Which one of the thread's it is.
    number: u8,
    /// Whether others of the thread were left out before it.
    follows_others: bool,
    cause: WaitCause,
    /// The address of the futex that is waited for; 0 for something else.
    lock: u64,
    /// The thread that holds it; 0 if nobody knows.
    holder: u32,
    tgid: u32,
    site: Site,
}

impl Waiting {
    pub(super) fn new(
        since: Nanos,
        (waits, number, follows_others): (u64, u8, bool),
        (cause, lock): (WaitCause, u64),
        site: Site,
    ) -> Self {
        let tgid = site.owner.value().tgid;
        Self {
            since,
            began_in_sight: true,
            waits,
            number,
            follows_others,
            cause,
            lock,
            holder: 0,
            tgid,
            site,
        }
    }

    /// One that was found to be under way. What the thread did before it nobody knows.
    pub(super) fn found(since: Nanos, number: u8, what: (WaitCause, u64), site: Site) -> Self {
        Self { began_in_sight: false, ..Self::new(since, (1, number, true), what, site) }
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// When it began.
    pub(super) fn since(&self) -> Nanos {
        self.since
    }

    /// Whether it was seen to begin.
    pub(super) fn began_in_sight(&self) -> bool {
        self.began_in_sight
    }

    /// How many waits it stands for.
    pub(super) fn waits(&self) -> i64 {
        i64::try_from(self.waits).unwrap_or(i64::MAX)
    }

    /// Which one of the thread's it is, around and around.
    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// Whether others of the thread were left out before it.
    pub(super) fn follows_others(&self) -> bool {
        self.follows_others
    }

    /// What for.
    pub(super) fn cause(&self) -> WaitCause {
        self.cause
    }

    /// The address of the futex; 0 if it is none.
    pub(super) fn lock(&self) -> u64 {
        self.lock
    }

    /// The thread that holds it; 0 if nobody knows.
    pub(super) fn holder(&self) -> u32 {
        self.holder
    }

    /// As it is told while it goes on, in a profile from `from` to `end`.
    pub(super) fn detail(&self, from: Nanos, end: Nanos) -> Detail {
        let blocked_for =
            if self.since < from { first_digit(end.0.saturating_sub(self.since.0)) } else { 0 };
        Detail::Wait { cause: self.cause, lock: self.lock, holder: self.holder, blocked_for }
    }

    /// As it is told when it is over, and where its beginning is counted.
    pub(super) fn plain_detail(&self) -> Detail {
        Detail::over(self.cause)
    }

    /// Its time in `from..to`, in nanoseconds: of this thread alone, which cannot wait for longer.
    pub(super) fn time_in(&self, from: Nanos, to: Nanos) -> u64 {
        to.0.saturating_sub(self.since.0.max(from.0))
    }
}

/// The number without all its digits but the first.
fn first_digit(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0));
    number / unit * unit
}

/// Owner of the waits under way, by thread id.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waiting: FxHashMap<u32, Waiting>,
    sites: Sites,
    /// Bytes that all of this may occupy, with the owners and stacks it keeps alive.
    max_bytes: usize,
    untracked: u64,
    unended: u64,
}

impl Waits {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    pub(super) fn stats(&self) -> WaitStats {
        WaitStats { waiting: self.waiting.len(), untracked: self.untracked, unended: self.unended }
    }

    /// Bytes of the ledger's own tables (the interners count the stacks and owners).
    pub(super) fn bytes(&self) -> usize {
        table_bytes::<(u32, Waiting)>(self.waiting.capacity()) + self.sites.bytes()
    }

    /// A thread begins to wait. Says whether the site is new to the ledger, so that the ring holds it.
    fn begin(&mut self, tid: u32, waiting: Waiting, unused: &mut Unused) -> bool {
        if let Some(last) = self.waiting.remove(&tid) {
            self.unended += 1;
            self.sites.remove(last.site, unused);
        }
        let kept = self.sites.kept_bytes() + self.sites.added_bytes(&waiting.site);
        let tables = (self.waiting.len() + 1) * WAIT_BYTES;
        if self.waiting.len() >= MAX_WAITING || kept + tables > self.max_bytes {
            self.untracked += 1;
            return false;
        }
        let site_is_new = self.sites.add(&waiting.site);
        self.waiting.insert(tid, waiting);
        site_is_new
    }

    /// A wait is over: its site stays the ledger's until [`Self::forget`].
    fn end(&mut self, tid: u32) -> Option<Waiting> {
        let waiting = self.waiting.remove(&tid);
        if self.waiting.len() * 4 < self.waiting.capacity() {
            self.waiting.shrink_to(self.waiting.len() * 2);
        }
        waiting
    }

    fn forget(&mut self, waiting: Waiting, unused: &mut Unused) {
        self.sites.remove(waiting.site, unused);
        self.sites.shrink();
    }

    /// The waits under way.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    /// The same, each with its thread, in no particular order.
    pub(super) fn by_thread(&self) -> impl Iterator<Item = (u32, &Waiting)> {
        self.waiting.iter().map(|(&tid, waiting)| (tid, waiting))
    }
}

impl Window {
    /// The locks that threads wait for now whose owner `wanted` names, by process and address, each once.
    pub fn locks_awaited(&self, wanted: &dyn Fn(&Owner) -> bool) -> BTreeSet<(u32, u64)> {
        let for_locks = self.waits.under_way().filter(|waiting| waiting.lock != 0);
        let wanted = for_locks.filter(|waiting| wanted(waiting.site.owner.value()));
        wanted.map(|waiting| (waiting.tgid, waiting.lock)).collect()
    }

    /// Somebody has looked who holds locks: that is what threads wait for now. What was known before of
    /// others is no longer true.
    pub fn locks_held(&mut self, held: &[LockHolder]) {
        let held: FxHashMap<(u32, u64), u32> =
            held.iter().map(|it| ((it.tgid, it.lock), it.tid)).collect();
        for waiting in self.waits.waiting.values_mut() {
            waiting.holder = held.get(&(waiting.tgid, waiting.lock)).copied().unwrap_or(0);
        }
    }

    /// Whether this wait of a thread is known.
    pub fn knows_wait(&self, tid: u32, number: u8) -> bool {
        self.waits.waiting.get(&tid).is_some_and(|waiting| waiting.number == number)
    }

    /// A thread was found waiting.
    pub(super) fn wait_found(&mut self, tid: u32, waiting: Waiting) {
        if !self.knows_wait(tid, waiting.number) {
            self.wait_began(tid, waiting);
        }
    }

    /// A thread begins to wait.
    pub(super) fn wait_began(&mut self, tid: u32, waiting: Waiting) {
        let site = waiting.site.clone();
        self.hold_for(&site, |this, unused| this.waits.begin(tid, waiting, unused));
    }

    /// The thread has the CPU again: the time of its wait goes to the seconds that it lay in.
    pub(super) fn wait_ended(&mut self, tid: u32, time: Nanos, number: u8, cpu: u32) {
        let Some(waiting) = self.waits.end(tid) else { return };
        let mut unused = Unused::new();
        if waiting.number == number {
            self.add_time(&waiting, time);
            self.draw_wait(tid, &waiting, time, cpu);
        } else {
            // The end of another one, whose beginning was lost, as was the end of this.
            self.waits.unended += 1;
        }
        self.waits.forget(waiting, &mut unused);
        self.release(unused);
    }

    fn add_time(&mut self, waiting: &Waiting, time: Nanos) {
        // So there are no more seconds than the window has.
        self.advance(time);
        let first = waiting.since.second().max(self.first_second());
        for second in first..=time.second() {
            let begin = Nanos(second.saturating_mul(NANOS_PER_SECOND));
            let end = Nanos(begin.0.saturating_add(NANOS_PER_SECOND)).min(time);
            let nanos = waiting.time_in(begin, end).saturating_mul(waiting.waits);
            if nanos > 0 {
                let Site { owner, stack } = waiting.site.clone();
                let detail = waiting.plain_detail();
                let key = CellKey { kind: ProfileKind::Blocked, owner, stack, detail };
                self.add(second, key, [0, i64::try_from(nanos).unwrap_or(i64::MAX)]);
            }
        }
    }

    /// The thread has done something else: if it was taken to wait, the record of the end was lost.
    pub(super) fn wait_contradicted(&mut self, tid: u32, time: Nanos) {
        if self.waits.waiting.get(&tid).is_some_and(|waiting| waiting.since < time) {
            self.wait_forgotten(tid);
        }
    }

    /// Nobody of this number waits any more.
    pub(super) fn wait_forgotten(&mut self, tid: u32) {
        let Some(waiting) = self.waits.end(tid) else { return };
        let mut unused = Unused::new();
        self.waits.unended += 1;
        self.waits.forget(waiting, &mut unused);
        self.release(unused);
    }
}

#[cfg(test)]
mod tests;
