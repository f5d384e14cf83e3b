//! Families: processes that came of one another by fork, and what they have from each other.
//!
//! Must not: let pages be shared that were touched after the fork.

use std::collections::btree_map::Entry;

use super::page::Page;
use super::{MAX_PAGES, MAX_PROCESSES, Process, Residents};
use crate::collect::Nanos;
use crate::window::sites::Unused;

/// Children of one process whose inheritance is not noted yet: those of the last second. Each is looked
/// at when the parent gives something back.
const MAX_HEIRS: usize = 1024;

impl Residents {
    /// A process was made by another: it begins with the same memory.
    pub(in crate::window) fn forked(
        &mut self,
        parent: u32,
        child: u32,
        now: Nanos,
        unused: &mut Unused,
    ) {
        self.forget(child, unused);
        let room = self.processes.len() < MAX_PROCESSES && !self.is_full(0, 0);
        let Some(of) = self.processes.get_mut(&parent) else { return };
        if of.pages.is_empty() && of.heir_of.is_none() {
            return;
        }
        if !room || child == parent || of.heirs.len() >= MAX_HEIRS {
            self.stats.unfollowed_forks += 1;
            return;
        }
        of.heirs.push(child);
        of.forked = Some(now);
        let (family, level) = (of.family, of.level);
        let (forked, heir_of) = (Some(now), Some((parent, now)));
        let process = Process { family, level, forked, heir_of, ..Process::default() };
        self.processes.insert(child, process);
        self.forked.push_back((now, child));
    }

    /// A process no longer has these pages, which have been taken out. Children whose inheritance is not
    /// noted yet still have them.
    pub(super) fn lose(&mut self, tgid: u32, lost: Vec<(u64, Page)>, unused: &mut Unused) {
        if lost.is_empty() {
            return;
        }
        let heirs = self.processes.get(&tgid).map_or_else(Vec::new, |it| it.heirs.clone());
        for heir in heirs {
            if self.is_too_full_to_share(lost.len()) {
                self.disinherit(heir);
                self.stats.unfollowed_forks += 1;
                continue;
            }
            let Some(child) = self.processes.get_mut(&heir) else { continue };
            let Some((_, forked)) = child.heir_of.filter(|(parent, _)| *parent == tgid) else {
                continue;
            };
            for (address, page) in lost.iter().filter(|(_, page)| page.touched <= forked) {
                if let Entry::Vacant(place) = child.pages.entry(*address) {
                    self.sites.add(&page.site);
                    self.pages += 1;
                    place.insert(page.clone());
                }
            }
        }
        for (_, page) in lost {
            self.sites.remove(page.site, unused);
        }
    }

    /// Takes a child off its parent's list of heirs; says what it was to inherit.
    pub(super) fn disinherit(&mut self, child: u32) -> Option<(u32, Nanos)> {
        let (parent, forked) = self.processes.get_mut(&child)?.heir_of.take()?;
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.heirs.retain(|heir| *heir != child);
        }
        Some((parent, forked))
    }

    /// Notes the pages that a child has from its parent.
    pub(super) fn inherit(&mut self, child: u32) {
        // What its parent has from its own comes first. Nobody is an heir twice, so the line ends.
        let (mut line, mut last) = (Vec::new(), child);
        while let Some((parent, forked)) = self.disinherit(last) {
            line.push((last, parent, forked));
            last = parent;
        }
        for (child, parent, forked) in line.into_iter().rev() {
            self.take_over(child, parent, forked);
        }
    }

    fn take_over(&mut self, child: u32, parent: u32, forked: Nanos) {
        let count = self.processes.get(&parent).map_or(0, |parent| parent.pages.len());
        if self.is_too_full_to_share(count) {
            self.stats.unfollowed_forks += 1;
            return;
        }
        let pages: Vec<(u64, Page)> = self.processes.get(&parent).map_or_else(Vec::new, |parent| {
            let before = parent.pages.iter().filter(|(_, page)| page.touched <= forked);
            before.map(|(address, page)| (*address, page.clone())).collect()
        });
        let Some(process) = self.processes.get_mut(&child) else { return };
        for (address, page) in pages {
            // What the child has touched itself is its own.
            if let Entry::Vacant(place) = process.pages.entry(address) {
                // The parent's page keeps the site in use, so it is not new.
                self.sites.add(&page.site);
                self.pages += 1;
                place.insert(page);
            }
        }
    }

    /// Whether so many pages more are too much for what is only shared: half the room is for what is
    /// touched.
    fn is_too_full_to_share(&self, pages: usize) -> bool {
        self.pages + pages > MAX_PAGES / 2 || self.is_full(self.pages + 2 * pages, 0)
    }
}
