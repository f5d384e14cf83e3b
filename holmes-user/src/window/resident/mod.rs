//! The residency ledger: which pages of sampled faults are still in use, and which stack touched each
//! first.
//!
//! A page is in use from its fault until its process gives it back, executes another program or ends,
//! or until somebody has looked and it was not there. Each stands for the memory that its sample
//! stands for. Where a process has more pages than are kept, half of them go, drawn by lot, and the
//! others stand for them; of those that it touches from then on, too. Sums stay, resolution is lost.
//!
//! Processes that came of one another by fork are a family: a page that several of them have counts
//! once, under the process that touched it. A family is thinned together, and by the same lots, so that
//! what is shared stays the same pages.
//!
//! Some faults bring no memory: a page may be shared until it is written to, or be made to fault so that
//! the kernel sees who uses it. A process never has more in use than the kernel says is resident.
//!
//! Must not: look at a process (whoever does hands in what is gone), or count faults (the buckets do).

mod family;
mod fit;
mod page;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;

use rustc_hash::FxHashMap;

use page::Page;

use super::intern::table_bytes;
use super::sites::{Site, Sites, Unused};
use crate::collect::{Memory, Nanos};

/// Pages kept of one process: 32 GiB of touched memory at the usual interval.
const MAX_PAGES_OF_PROCESS: usize = 65_536;

/// Pages kept in all; 28 MiB at the most.
const MAX_PAGES: usize = 262_144;

/// Processes with pages: as many as `process` remembers.
const MAX_PROCESSES: usize = 32_768;

/// How long the pages of an ended process are remembered: an incident of its end is cut within
/// seconds, and so is one whose span ended just before.
const REMEMBER_ENDED_NS: u64 = 10_000_000_000;

/// How long after a fork the child's pages are noted. Most children execute another program at once.
const INHERIT_AFTER_NS: u64 = 1_000_000_000;

/// Bytes of one entry in a `BTreeMap`: its nodes are at least half full.
const PAGE_BYTES: usize = 2 * size_of::<(u64, Page)>();

/// Low bits of an address that lie within a page.
const PAGE_MASK: u64 = 4095;

/// What the ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentStats {
    /// Pages kept.
    pub pages: usize,
    /// Processes that have some.
    pub processes: usize,
    /// Samples that are not followed, because the ledger was full: missing in "in use".
    pub untracked: u64,
    /// How often half the pages of a process were let go.
    pub thinned: u64,
    /// Forks whose child's pages are not followed, because the ledger was too full.
    pub unfollowed_forks: u64,
}

/// The pages of one process.
#[derive(Debug, Default)]
struct Process {
    pages: BTreeMap<u64, Page>,
    /// The same of all that came of one another by fork.
    family: u64,
    /// What its pages' `level` is, and that of those it touches.
    level: u8,
    /// When it was last forked, as parent or as child: what it had then it may have copied since.
    forked: Option<Nanos>,
    /// Its parent and when it was forked, as long as the pages from then have not been noted.
    heir_of: Option<(u32, Nanos)>,
    /// Its children for which that holds.
    heirs: Vec<u32>,
    ended: Option<Nanos>,
}

/// Bytes of a process beside its pages: its entry in a table that doubles, that of a fork, that of an end.
const PROCESS_BYTES: usize =
    4 * (size_of::<(u32, Process)>() + 1) + 4 * size_of::<(Nanos, u32)>() + size_of::<u32>();

/// A page in use.
pub(super) struct InUse<'a> {
    pub(super) site: &'a Site,
    pub(super) bytes: u64,
    pub(super) memory: Memory,
}

/// Owner of what is known of resident memory.
#[derive(Debug, Default)]
pub(super) struct Residents {
    processes: FxHashMap<u32, Process>,
    /// Families so far.
    families: u64,
    pages: usize,
    sites: Sites,
    /// Ended lately, oldest first.
    ended: VecDeque<(Nanos, u32)>,
    /// Forked lately, oldest first.
    forked: VecDeque<(Nanos, u32)>,
    /// Bytes that all of this may occupy, with the owners and stacks it keeps alive.
    max_bytes: usize,
    stats: ResidentStats,
}

impl Residents {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    pub(super) fn stats(&self) -> ResidentStats {
        ResidentStats { pages: self.pages, processes: self.processes.len(), ..self.stats }
    }

    /// Bytes of the ledger's own tables (the interners count the stacks and owners).
    pub(super) fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
            + table_bytes::<(u32, Process)>(self.processes.capacity())
            + (self.ended.capacity() + self.forked.capacity()) * size_of::<(Nanos, u32)>()
            + self.sites.bytes()
    }

    /// A page was touched. Says whether the site is new to the ledger, so that the ring holds it.
    pub(super) fn touched(
        &mut self,
        tgid: u32,
        address: u64,
        page: (Nanos, u64, Memory),
        site: Site,
        unused: &mut Unused,
    ) -> bool {
        let (touched, bytes, memory) = page;
        if !self.make_room(tgid, &site, unused) {
            self.stats.untracked += 1;
            return false;
        }
        let address = address & !PAGE_MASK;
        let process = self.processes.entry(tgid).or_insert_with(|| {
            self.families += 1;
            Process { family: self.families, ..Process::default() }
        });
        let before = process.pages.remove_entry(&address);
        let mut page = Page { touched, touched_at: address, site, bytes, memory, level: 0 };
        let mut site_is_new = false;
        if page.rise(process.level) {
            site_is_new = self.sites.add(&page.site);
            self.pages += 1;
            process.pages.insert(address, page);
        }
        if let Some(before) = before {
            // It was given back meanwhile, and nobody noticed; or it was shared, and this is a copy.
            self.pages -= 1;
            self.lose(tgid, vec![before], unused);
        }
        site_is_new
    }

    /// Whether there is room for one more page of this process, after some was made.
    fn make_room(&mut self, tgid: u32, site: &Site, unused: &mut Unused) -> bool {
        let of_process = self.processes.get(&tgid).map_or(0, |process| process.pages.len());
        if of_process == 0 && self.processes.len() >= MAX_PROCESSES {
            return false;
        }
        if of_process >= MAX_PAGES_OF_PROCESS {
            self.thin(tgid, unused);
        }
        // Where pages are not what takes the room, letting some go makes none.
        let by_pages = self.pages >= MAX_PAGES || 4 * self.pages * PAGE_BYTES > self.max_bytes;
        if by_pages && self.is_full(1, self.sites.added_bytes(site)) {
            // By number among equals: a replay must not depend on the order of a hash table.
            let largest = self.processes.iter().max_by_key(|(tgid, it)| (it.pages.len(), **tgid));
            if let Some(largest) = largest.map(|(tgid, _)| *tgid) {
                self.thin(largest, unused);
            }
        }
        !self.is_full(1, self.sites.added_bytes(site))
    }

    /// Whether so many pages more, and so many bytes of sites, are too much. What they may be the first
    /// of is in it, too.
    fn is_full(&self, pages: usize, site_bytes: usize) -> bool {
        let processes = (self.processes.len() + self.ended.len() + 1) * PROCESS_BYTES;
        let bytes = self.sites.kept_bytes() + site_bytes + (self.pages + pages) * PAGE_BYTES;
        self.pages + pages > MAX_PAGES || processes + bytes > self.max_bytes
    }

    /// Lets half of a process's pages go, and of its family's.
    fn thin(&mut self, tgid: u32, unused: &mut Unused) {
        let Some(process) = self.processes.get(&tgid) else { return };
        let (family, level) = (process.family, process.level.saturating_add(1));
        self.stats.thinned += 1;
        for process in self.processes.values_mut().filter(|process| process.family == family) {
            let before = process.pages.len();
            process.level = level;
            process.pages.retain(|_, page| {
                let stays = page.rise(level);
                if !stays {
                    self.sites.remove(page.site.clone(), unused);
                }
                stays
            });
            self.pages -= before - process.pages.len();
        }
    }

    /// The process gave memory back.
    pub(super) fn released(&mut self, tgid: u32, start: u64, bytes: u64, unused: &mut Unused) {
        let lost = self.take_range(tgid, start, bytes);
        self.lose(tgid, lost, unused);
    }

    /// The process moved memory.
    pub(super) fn moved(&mut self, tgid: u32, [from, to, bytes]: [u64; 3], unused: &mut Unused) {
        // Children have it where it was: notes are made while that is known.
        for heir in self.processes.get(&tgid).map_or_else(Vec::new, |it| it.heirs.clone()) {
            self.inherit(heir);
        }
        let moving = self.take_range(tgid, from, bytes);
        // What was at the new place is no longer there.
        self.released(tgid, to, bytes, unused);
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        for (address, page) in moving {
            let address = to.wrapping_add(address.wrapping_sub(from)) & !PAGE_MASK;
            self.pages += 1;
            if let Some(before) = process.pages.insert(address, page) {
                self.pages -= 1;
                self.sites.remove(before.site, unused);
            }
        }
    }

    /// Takes out the pages that begin in a range: at both ends, the kernel rounds up to a page.
    fn take_range(&mut self, tgid: u32, start: u64, bytes: u64) -> Vec<(u64, Page)> {
        let Some(process) = self.processes.get_mut(&tgid) else { return Vec::new() };
        let end = start.saturating_add(bytes);
        let first = start.saturating_add(PAGE_MASK) & !PAGE_MASK;
        if first >= end {
            return Vec::new();
        }
        let addresses: Vec<u64> = process.pages.range(first..end).map(|(at, _)| *at).collect();
        let taken = addresses.into_iter().filter_map(|at| process.pages.remove_entry(&at));
        let taken: Vec<(u64, Page)> = taken.collect();
        self.pages -= taken.len();
        taken
    }

    /// Pages were looked for, and are not in place.
    pub(super) fn gone(&mut self, tgid: u32, addresses: &[u64], unused: &mut Unused) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        let lost: Vec<(u64, Page)> =
            addresses.iter().filter_map(|at| process.pages.remove_entry(at)).collect();
        self.pages -= lost.len();
        self.lose(tgid, lost, unused);
    }

    /// The process executed another program: its memory is gone.
    pub(super) fn executed(&mut self, tgid: u32, unused: &mut Unused) {
        self.forget(tgid, unused);
    }

    /// The last thread of a process ended.
    pub(super) fn ended(&mut self, tgid: u32, now: Nanos) {
        // What it had from its parent and has not been noted, it has no more.
        self.disinherit(tgid);
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.ended = Some(now);
            self.ended.push_back((now, tgid));
        }
    }

    fn forget(&mut self, tgid: u32, unused: &mut Unused) {
        self.disinherit(tgid);
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        let lost: Vec<(u64, Page)> = std::mem::take(&mut process.pages).into_iter().collect();
        self.pages -= lost.len();
        self.lose(tgid, lost, unused);
        for heir in self.processes.remove(&tgid).map_or_else(Vec::new, |process| process.heirs) {
            self.disinherit(heir);
        }
    }

    /// Lets time pass: notes what children have inherited, and forgets the processes that ended too
    /// long ago.
    pub(super) fn expire(&mut self, now: Nanos, unused: &mut Unused) {
        let passed = |then: Nanos, length: u64| now.0.saturating_sub(then.0) > length;
        while let Some((forked, child)) = self.forked.front().copied()
            && passed(forked, INHERIT_AFTER_NS)
        {
            self.forked.pop_front();
            // Unless its number belongs to another one.
            let heir_of = self.processes.get(&child).and_then(|process| process.heir_of);
            if heir_of.is_some_and(|(_, since)| since == forked) {
                self.inherit(child);
            }
        }
        while let Some((ended, tgid)) = self.ended.front().copied()
            && passed(ended, REMEMBER_ENDED_NS)
        {
            self.ended.pop_front();
            // Unless its id belongs to another one.
            if self.processes.get(&tgid).is_some_and(|process| process.ended == Some(ended)) {
                self.forget(tgid, unused);
            }
        }
        if self.processes.len() * 4 < self.processes.capacity() {
            self.processes.shrink_to(self.processes.len() * 2);
        }
        for queue in [&mut self.ended, &mut self.forked] {
            if queue.len() * 4 < queue.capacity() {
                queue.shrink_to(queue.len() * 2);
            }
        }
        self.sites.shrink();
    }

    /// The pages touched before `touched_before` that are in use now, of processes that have not ended
    /// before `living_at`. What several of a family have counts once.
    pub(super) fn in_use(&self, touched_before: Nanos, living_at: Nanos) -> Vec<InUse<'_>> {
        let living = move |process: &&Process| process.ended.is_none_or(|ended| ended >= living_at);
        let mut relatives: FxHashMap<u64, usize> = FxHashMap::default();
        for process in self.processes.values().filter(living) {
            *relatives.entry(process.family).or_default() += 1;
        }
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for process in self.processes.values().filter(living) {
            let alone = relatives.get(&process.family) == Some(&1);
            let pages = if alone { &mut own } else { &mut shared };
            pages.extend(process.pages.values().filter(|page| page.touched < touched_before));
        }
        // The largest of each: who has copied a page has it still on paper, in part.
        shared.sort_unstable_by_key(|page| (page.identity(), Reverse(page.bytes)));
        shared.dedup_by_key(|page| page.identity());
        own.append(&mut shared);
        let in_use = own.into_iter();
        in_use
            .map(|page| InUse { site: &page.site, bytes: page.bytes, memory: page.memory })
            .collect()
    }

    /// Where one of a process's pages was touched.
    pub(super) fn site_of(&self, tgid: u32) -> Option<&Site> {
        self.processes.get(&tgid)?.pages.values().next_back().map(|page| &page.site)
    }

    /// The processes that have pages and live, by number, with their pages' addresses.
    pub(super) fn addresses(
        &self,
        mut wanted: impl FnMut(u32, &Site) -> bool,
    ) -> Vec<(u32, Vec<u64>)> {
        let mut found: Vec<(u32, Vec<u64>)> = self
            .processes
            .iter()
            .filter(|(_, process)| process.ended.is_none())
            .filter(|(tgid, process)| {
                let newest = process.pages.values().next_back();
                newest.is_some_and(|page| wanted(**tgid, &page.site))
            })
            .map(|(tgid, process)| (*tgid, process.pages.keys().copied().collect()))
            .collect();
        found.sort_unstable();
        found
    }
}
