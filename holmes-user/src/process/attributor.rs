//! Says of each observation whose it is: the process's image and the task's cgroup.
//!
//! Must not: keep observations.

use std::path::Path;
use std::sync::Arc;

use super::attributed::{Attributed, Cgroup};
use super::cgroups::CgroupIndex;
use super::image::Image;
use super::pagemap::Pagemaps;
use super::table::{ProcessStats, ProcessTable};
use super::unplaced::Unplaced;
use crate::collect::{CgroupId, Memory, Nanos, Observation, What};

/// The processes and cgroups of the host, as far as they have been seen.
pub struct Attributor {
    processes: ProcessTable,
    pagemaps: Pagemaps,
    unplaced: Unplaced,
    /// `None` on a host without cgroups.
    cgroups: Option<CgroupIndex>,
}

impl Attributor {
    /// Reads processes from this `/proc`, and cgroups from this index.
    pub fn new(proc_root: &Path, cgroups: Option<CgroupIndex>) -> Self {
        let pagemaps = Pagemaps::new(proc_root);
        let (processes, unplaced) = (ProcessTable::new(proc_root), Unplaced::default());
        Self { processes, pagemaps, unplaced, cgroups }
    }

    /// Whose an observation is. Reads `/proc` where that is not known yet, so it must be asked
    /// soon after the fact, and in the order of the facts.
    pub fn attribute(&mut self, mut observation: Observation) -> Attributed {
        let tgid = observation.tgid;
        match &mut observation.what {
            What::Fault { address, memory: Memory::AnonymousHuge, .. } => {
                let is_huge = *address != 0 && self.pagemaps.may_be_huge(tgid, *address);
                self.unplaced.place(is_huge, &mut observation);
            }
            What::Fault { address, memory, bytes } => match self.pagemaps.memory(tgid, *address) {
                Some(Memory::Unknown) => {}
                Some(found) => *memory = found,
                None => *bytes = 0,
            },
            What::Exec => self.forget_memory(tgid),
            What::Exit if observation.tid == tgid => self.forget_memory(tgid),
            What::NewProcess { tgid } => {
                let new = *tgid;
                self.forget_memory(new);
            }
            _ => {}
        }
        let image = self.processes.image_of(&observation);
        let cgroup = self.cgroup(observation.cgroup, observation.time);
        Attributed { observation, image, cgroup }
    }

    fn forget_memory(&mut self, tgid: u32) {
        self.pagemaps.forget(tgid);
        self.unplaced.forget(tgid);
    }

    /// Those of a process's pages, by address in order, that are not in memory. `None` if it cannot be
    /// asked any more.
    pub fn absent_pages(&mut self, tgid: u32, addresses: &[u64]) -> Option<Vec<u64>> {
        self.pagemaps.absent(tgid, addresses)
    }

    /// Bytes resident of a process: anonymous ones, and those of files and of shared memory. `None` if it
    /// has none: it has ended.
    pub fn resident_bytes(&self, tgid: u32) -> Option<[u64; 2]> {
        self.pagemaps.resident(tgid)
    }

    /// What a process has mapped that is expected to be observed.
    pub fn prepare(&mut self, tgid: u32, now: Nanos) -> Option<Arc<Image>> {
        self.processes.prepare(tgid, now)
    }

    /// The cgroup with this id.
    pub fn cgroup(&mut self, id: CgroupId, now: Nanos) -> Arc<Cgroup> {
        match &mut self.cgroups {
            Some(cgroups) => cgroups.resolve(id, now),
            None => Arc::new(Cgroup { id, path: String::new(), container: None }),
        }
    }

    /// Looks for new and removed cgroups; returns those that exist and have tasks of their own.
    pub fn refresh_cgroups(&mut self, now: Nanos) -> Vec<Arc<Cgroup>> {
        self.cgroups.as_mut().map_or_else(Vec::new, |cgroups| {
            cgroups.refresh(now);
            cgroups.populated()
        })
    }

    /// The cgroups that were removed since this was last asked.
    pub fn take_removed(&mut self) -> Vec<CgroupId> {
        self.cgroups.as_mut().map_or_else(Vec::new, CgroupIndex::take_removed)
    }

    /// The processes that were forgotten since this was last asked.
    pub fn take_forgotten(&mut self) -> Vec<u32> {
        self.processes.take_forgotten()
    }

    /// What is counted of the work on processes.
    pub fn process_stats(&self) -> ProcessStats {
        self.processes.stats()
    }
}
