//! The residency ledger: which pages of sampled faults are still in use, and which stack touched each
//! first.
//!
//! A page is in use from its fault until its process gives it back, executes another program or ends,
//! or until somebody has looked and it was not there. Each stands for the memory that its sample
//! stands for. Where a process has more pages than are kept, every second one goes, and its neighbour
//! stands for both: sums stay, resolution is lost. What a child has from its parent counts under the
//! process that touched it.
//!
//! Must not: look at a process (whoever does hands in what is gone), or count faults (the buckets do).

use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;

use rustc_hash::FxHashMap;

use super::intern::table_bytes;
use super::sites::{Site, Sites, Unused};
use crate::collect::{Memory, Nanos};

/// Pages kept of one process: 32 GiB of touched memory at the usual interval.
const MAX_PAGES_OF_PROCESS: usize = 65_536;

/// Pages kept in all; 24 MiB at the most.
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
    /// How often every second page of a process was let go.
    pub thinned: u64,
    /// Forks whose child's pages are not followed, because the ledger was too full.
    pub unfollowed_forks: u64,
}

/// A page that a sampled fault put in place.
#[derive(Clone, Debug)]
struct Page {
    touched: Nanos,
    site: Site,
    /// Bytes that it stands for.
    bytes: u64,
    memory: Memory,
    /// It was the parent's, and is shared with it until one of them writes to it.
    inherited: bool,
}

/// The pages of one process.
#[derive(Debug, Default)]
struct Process {
    pages: BTreeMap<u64, Page>,
    /// Its parent, when it was forked, and whether the pages from then have been noted.
    parent: Option<(u32, Nanos, bool)>,
    ended: Option<Nanos>,
}

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
        let site_is_new = self.sites.add(&site);
        let process = self.processes.entry(tgid).or_default();
        let page = Page { touched, site, bytes, memory, inherited: false };
        match process.pages.insert(address & !PAGE_MASK, page) {
            // It was given back meanwhile, and nobody noticed.
            Some(before) => self.sites.remove(before.site, unused),
            None => self.pages += 1,
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
        let full = |this: &Self| {
            let kept = this.sites.kept_bytes() + this.sites.added_bytes(site);
            this.pages >= MAX_PAGES || kept + (this.pages + 1) * PAGE_BYTES > this.max_bytes
        };
        if full(self) {
            // By number among equals: a replay must not depend on the order of a hash table.
            let largest = self.processes.iter().max_by_key(|(tgid, it)| (it.pages.len(), **tgid));
            if let Some(largest) = largest.map(|(tgid, _)| *tgid) {
                self.thin(largest, unused);
            }
        }
        !full(self)
    }

    /// Lets every second page of a process go; the one before it stands for both. A page's neighbours
    /// were mostly touched by the same stack, and where not, chance is fair.
    fn thin(&mut self, tgid: u32, unused: &mut Unused) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        self.stats.thinned += 1;
        let mut odd = false;
        for (address, mut page) in std::mem::take(&mut process.pages) {
            odd = !odd;
            if odd {
                page.bytes = page.bytes.saturating_mul(2);
                process.pages.insert(address, page);
            } else {
                self.pages -= 1;
                self.sites.remove(page.site, unused);
            }
        }
    }

    /// The process gave memory back.
    pub(super) fn released(&mut self, tgid: u32, start: u64, bytes: u64, unused: &mut Unused) {
        for (_, page) in self.take_range(tgid, start, bytes) {
            self.sites.remove(page.site, unused);
        }
    }

    /// The process moved memory.
    pub(super) fn moved(&mut self, tgid: u32, [from, to, bytes]: [u64; 3], unused: &mut Unused) {
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

    /// Takes out the pages that lie wholly in a range.
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
        for address in addresses {
            if let Some(page) = process.pages.remove(address) {
                self.pages -= 1;
                self.sites.remove(page.site, unused);
            }
        }
    }

    /// A process was made by another: it begins with the same memory.
    pub(super) fn forked(&mut self, parent: u32, child: u32, now: Nanos, unused: &mut Unused) {
        self.forget(child, unused);
        if self.processes.len() < MAX_PROCESSES && self.processes.contains_key(&parent) {
            let process = Process { parent: Some((parent, now, false)), ..Process::default() };
            self.processes.insert(child, process);
            self.forked.push_back((now, child));
        }
    }

    /// The process executed another program: its memory is gone.
    pub(super) fn executed(&mut self, tgid: u32, unused: &mut Unused) {
        self.forget(tgid, unused);
    }

    /// The last thread of a process ended.
    pub(super) fn ended(&mut self, tgid: u32, now: Nanos) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.ended = Some(now);
            self.ended.push_back((now, tgid));
        }
    }

    fn forget(&mut self, tgid: u32, unused: &mut Unused) {
        if let Some(process) = self.processes.remove(&tgid) {
            self.pages -= process.pages.len();
            for page in process.pages.into_values() {
                self.sites.remove(page.site, unused);
            }
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
            self.inherit(child, forked);
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
        self.sites.shrink();
    }

    /// Notes the pages that a child has from its parent.
    fn inherit(&mut self, child: u32, forked: Nanos) {
        let Some(Process { parent: Some((parent, since, false)), .. }) = self.processes.get(&child)
        else {
            return;
        };
        let parent = *parent;
        if *since != forked {
            return;
        }
        let pages: Vec<(u64, Page)> = self.processes.get(&parent).map_or_else(Vec::new, |parent| {
            let before = parent.pages.iter().filter(|(_, page)| page.touched <= forked);
            before.map(|(address, page)| (*address, page.clone())).collect()
        });
        // The other half is for what is touched, not only shared.
        if 2 * (self.pages + pages.len()) > MAX_PAGES.min(self.max_bytes / PAGE_BYTES) {
            self.stats.unfollowed_forks += 1;
            return;
        }
        let Some(process) = self.processes.get_mut(&child) else { return };
        process.parent = Some((parent, forked, true));
        for (address, page) in pages {
            // What the child has touched itself is its own.
            if let std::collections::btree_map::Entry::Vacant(place) = process.pages.entry(address)
            {
                // The parent's page keeps the site in use, so it is not new.
                self.sites.add(&page.site);
                self.pages += 1;
                place.insert(Page { inherited: true, ..page });
            }
        }
    }

    /// The pages touched before `touched_before` that are in use now, of processes that have not ended
    /// before `living_at`. What a child shares with its parent counts once, as the parent's.
    pub(super) fn in_use(
        &self,
        touched_before: Nanos,
        living_at: Nanos,
    ) -> impl Iterator<Item = InUse<'_>> {
        let living = self
            .processes
            .values()
            .filter(move |process| process.ended.is_none_or(|ended| ended >= living_at));
        living.flat_map(move |process| {
            let parent = process
                .parent
                .and_then(|(parent, ..)| self.processes.get(&parent))
                .filter(|parent| parent.ended.is_none_or(|ended| ended >= living_at));
            let shared = move |address: &u64, page: &Page| {
                page.inherited
                    && parent
                        .and_then(|parent| parent.pages.get(address))
                        .is_some_and(|same| same.touched == page.touched)
            };
            process
                .pages
                .iter()
                .filter(move |(address, page)| {
                    page.touched < touched_before && !shared(address, page)
                })
                .map(|(_, page)| InUse { site: &page.site, bytes: page.bytes, memory: page.memory })
        })
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
