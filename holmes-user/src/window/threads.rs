//! The thread ledger: which threads are alive, and which stack created each.
//!
//! Must not: count creations (the buckets do). A thread is alive from its creator's record to its
//! own exit, its process's exec, or the reuse of its id. A leader's exit ends the leader alone: the
//! process goes on until its last thread exits.

use std::collections::{BTreeSet, VecDeque};
use std::mem::size_of;

use rustc_hash::FxHashMap;

use super::intern::table_bytes;
use super::sites::{Site, Sites, Unused};
use crate::collect::Nanos;

/// Threads followed at the same time, with those just ended. Twice what `kernel.threads-max`
/// allows on a host of 4 GiB, and 16 MiB at the most.
const MAX_THREADS: usize = 65_536;

/// How long an ended thread is remembered, so that a span that ended a moment ago still counts it
/// as alive. An incident is cut half a second after its span; the rest is for a delayed one.
const REMEMBER_ENDED_NS: u64 = 10_000_000_000;

/// Bytes of one entry in a `BTreeSet`: its nodes are at least half full.
const SET_ENTRY_BYTES: usize = 2 * size_of::<(u32, u32)>();

/// Bytes one thread occupies in the tables. Doubled, because a growing table doubles: what it would
/// become decides, not what it is.
const THREAD_BYTES: usize = 2 * (size_of::<(u32, Thread)>() + 1) + SET_ENTRY_BYTES;

/// What the ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadStats {
    /// Alive now, as far as the ledger knows.
    pub alive: usize,
    /// Created but not followed, because the ledger was full: missing in "alive".
    pub untracked: u64,
    /// Ended and forgotten early, because the ledger was full: a span that ended before they did
    /// misses them.
    pub forgotten: u64,
}

#[derive(Clone, Debug)]
struct Thread {
    tgid: u32,
    created: Nanos,
    site: Site,
}

/// Owner of what is known of threads.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    alive: FxHashMap<u32, Thread>,
    /// The same threads by process, for exec.
    by_process: BTreeSet<(u32, u32)>,
    /// Ended lately, oldest first.
    ended: VecDeque<(Nanos, Thread)>,
    /// Where the threads, alive or ended, were created.
    sites: Sites,
    /// Bytes that all of this may occupy, with the owners and stacks it keeps alive.
    max_bytes: usize,
    untracked: u64,
    forgotten: u64,
}

impl Ledger {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    pub(super) fn stats(&self) -> ThreadStats {
        ThreadStats {
            alive: self.alive.len(),
            untracked: self.untracked,
            forgotten: self.forgotten,
        }
    }

    /// Bytes of the ledger's own tables (the interners count the stacks and owners).
    pub(super) fn bytes(&self) -> usize {
        table_bytes::<(u32, Thread)>(self.alive.capacity())
            + self.by_process.len() * SET_ENTRY_BYTES
            + self.ended.capacity() * size_of::<(Nanos, Thread)>()
            + self.sites.bytes()
    }

    /// A thread was created. Says whether the site is new to the ledger, so that the ring holds it.
    pub(super) fn created(
        &mut self,
        tid: u32,
        tgid: u32,
        time: Nanos,
        site: Site,
        unused: &mut Unused,
    ) -> bool {
        self.end(tid, time, unused);
        if self.alive.len() + self.ended.len() >= MAX_THREADS {
            self.forget_oldest(unused);
        }
        let kept = self.sites.kept_bytes() + self.sites.added_bytes(&site);
        let full = self.alive.len() >= MAX_THREADS;
        let tables = (self.alive.len() + self.ended.len() + 1) * THREAD_BYTES;
        if full || kept + tables > self.max_bytes {
            self.untracked += 1;
            return false;
        }
        let site_is_new = self.sites.add(&site);
        self.by_process.insert((tgid, tid));
        self.alive.insert(tid, Thread { tgid, created: time, site });
        site_is_new
    }

    /// A thread ended. Nothing happens for one that the ledger does not know.
    pub(super) fn end(&mut self, tid: u32, time: Nanos, unused: &mut Unused) {
        if let Some(thread) = self.alive.remove(&tid) {
            self.by_process.remove(&(thread.tgid, tid));
            self.ended.push_back((time, thread));
        }
        self.expire(time, unused);
    }

    /// All threads of a process ended: it executed a new program, or its id belongs to a new one.
    pub(super) fn end_process(&mut self, tgid: u32, time: Nanos, unused: &mut Unused) {
        let tids: Vec<u32> =
            self.by_process.range((tgid, 0)..=(tgid, u32::MAX)).map(|&(_, tid)| tid).collect();
        for tid in tids {
            self.end(tid, time, unused);
        }
    }

    /// Forgets the threads that ended too long before `now`.
    pub(super) fn expire(&mut self, now: Nanos, unused: &mut Unused) {
        while self
            .ended
            .front()
            .is_some_and(|(ended, _)| now.0.saturating_sub(ended.0) > REMEMBER_ENDED_NS)
        {
            self.drop_oldest(unused);
        }
        if self.ended.len() * 4 < self.ended.capacity() {
            self.ended.shrink_to(self.ended.len() * 2);
        }
        if self.alive.len() * 4 < self.alive.capacity() {
            self.alive.shrink_to(self.alive.len() * 2);
        }
        self.sites.shrink();
    }

    fn forget_oldest(&mut self, unused: &mut Unused) {
        if self.drop_oldest(unused) {
            self.forgotten += 1;
        }
    }

    fn drop_oldest(&mut self, unused: &mut Unused) -> bool {
        let Some((_, thread)) = self.ended.pop_front() else { return false };
        self.sites.remove(thread.site, unused);
        true
    }

    /// The threads created before `created_before` and alive at `alive_at`, one site each.
    pub(super) fn alive(
        &self,
        created_before: Nanos,
        alive_at: Nanos,
    ) -> impl Iterator<Item = &Site> {
        let living = self.alive.values();
        let ended = self.ended.iter().filter(move |(end, _)| *end >= alive_at).map(|(_, it)| it);
        living
            .chain(ended)
            .filter(move |thread| thread.created < created_before && thread.created < alive_at)
            .map(|thread| &thread.site)
    }
}
