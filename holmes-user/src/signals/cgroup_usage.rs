//! What a cgroup with its descendants uses, on cgroup v2, v1 and hybrid hosts.
//!
//! On a hybrid host the controllers are spread over several hierarchies; the target is then looked
//! up at the same path in the others. Where no controller counts, its processes are asked.
//!
//! Must not: keep anything; the reader takes the differences.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holmes_common::limits::MAX_CGROUPS;

use super::cgroup_memory;
use super::host_usage::HostUsage;
use super::limits;
use super::process_usage;
use super::sources::{Sources, ids, keyed, number, text};
use super::usage::{Clock, Memory, Usage};
use crate::kernel::cgroupfs::{Hierarchy, Mount};
use crate::process::cgroup_walk::{has_tasks, walk};

/// Reads the cgroup at a path of a hierarchy; `None` where there is none (any more).
pub(super) fn read(
    sources: &Sources,
    hierarchy: Hierarchy,
    path: &str,
    host: &HostUsage,
) -> Option<Usage> {
    let cgroup = Cgroup::at(sources, hierarchy, path)?;
    // The kernel keeps no counts for the root, which is the host itself.
    let at_root = |of_host: Option<u64>| of_host.filter(|_| path == "/");
    Some(Usage {
        cpu: cgroup.cpu_time().unwrap_or((Clock::Probes, Duration::ZERO)),
        cpu_limit: cgroup.mounts("cpu").find_map(|mount| limits::cpus(mount, path)),
        memory: cgroup
            .mounts("memory")
            .find_map(|mount| cgroup_memory::read(mount, path))
            .or(at_root(host.memory_used).map(|used| Memory { in_use: used, held: used }))
            .or_else(|| cgroup.resident()),
        memory_limit: cgroup.mounts("memory").find_map(|mount| limits::memory(mount, path)),
        charged: cgroup
            .mounts("memory")
            .find_map(|mount| cgroup_memory::nearest_limit(mount, path)),
        threads: cgroup
            .mounts("pids")
            .find_map(|mount| number(&mount.directory(path)?.join("pids.current")))
            .or(at_root(host.threads))
            .or_else(|| cgroup.tasks()),
        incarnation: 0,
    })
}

/// The processes of a cgroup and of those below it.
pub(super) fn processes_of(sources: &Sources, hierarchy: Hierarchy, path: &str) -> Vec<u32> {
    let Some(cgroup) = Cgroup::at(sources, hierarchy, path) else { return Vec::new() };
    let subtree = cgroup.subtree().unwrap_or_default();
    let processes: BTreeSet<u32> =
        subtree.iter().flat_map(|directory| cgroup.processes(directory)).collect();
    processes.into_iter().collect()
}

/// The mount whose memory controller counts for a cgroup.
pub(super) fn memory_mount<'a>(
    sources: &'a Sources,
    hierarchy: Hierarchy,
    path: &'a str,
) -> Option<&'a Mount> {
    Cgroup::at(sources, hierarchy, path)?.memory_mount()
}

struct Cgroup<'a> {
    sources: &'a Sources,
    own: &'a Mount,
    path: &'a str,
    directory: PathBuf,
    /// Whether it has tasks of its own, apart from its descendants'.
    populated: bool,
}

impl<'a> Cgroup<'a> {
    fn at(sources: &'a Sources, hierarchy: Hierarchy, path: &'a str) -> Option<Self> {
        let own = sources.layout.mount(hierarchy)?;
        let directory = own.directory(path)?;
        directory.join("cgroup.procs").exists().then_some(())?;
        let populated = has_tasks(&directory);
        Some(Self { sources, own, path, directory, populated })
    }

    /// The mounts that may have a controller's files for this cgroup, the best one first.
    fn mounts(&self, controller: &str) -> impl Iterator<Item = &'a Mount> {
        let layout = &self.sources.layout;
        let unified = layout.unified();
        let own_is_unified = self.own.hierarchy == Hierarchy::Unified;
        let (first, last) = if own_is_unified { (unified, None) } else { (None, unified) };
        first
            .into_iter()
            .chain(layout.v1(controller))
            .chain(last)
            .filter(|mount| mount.hierarchy == self.own.hierarchy || self.is_twin(mount))
    }

    /// Whether the same path in another hierarchy stands for the same tasks. It may exist there and
    /// be empty: who made it moved the tasks in one hierarchy only.
    fn is_twin(&self, mount: &Mount) -> bool {
        mount.directory(self.path).is_some_and(|directory| {
            directory.join("cgroup.procs").exists() && (!self.populated || has_tasks(&directory))
        })
    }

    fn memory_mount(&self) -> Option<&'a Mount> {
        self.mounts("memory").find(|mount| cgroup_memory::read(mount, self.path).is_some())
    }

    fn cpu_time(&self) -> Option<(Clock, Duration)> {
        self.mounts("cpuacct").find_map(|mount| {
            let directory = mount.directory(self.path)?;
            match mount.hierarchy {
                Hierarchy::Unified => {
                    // It is there without the cpu controller, too.
                    let micros = keyed(&text(&directory.join("cpu.stat"))?, "usage_usec")?;
                    Some((Clock::Unified, Duration::from_micros(micros)))
                }
                Hierarchy::V1 { .. } => {
                    let nanos = number(&directory.join("cpuacct.usage"))?;
                    Some((Clock::Cpuacct, Duration::from_nanos(nanos)))
                }
            }
        })
    }

    /// What is resident of its processes and of those of its descendants.
    fn resident(&self) -> Option<Memory> {
        let processes: BTreeSet<u32> =
            self.subtree()?.iter().flat_map(|directory| self.processes(directory)).collect();
        // A process that has just gone has no memory.
        let resident =
            processes.into_iter().filter_map(|pid| process_usage::resident(self.sources, pid));
        Some(resident.fold(Memory { in_use: 0, held: 0 }, |sum, memory| Memory {
            in_use: sum.in_use.saturating_add(memory.in_use),
            held: sum.held.saturating_add(memory.held),
        }))
    }

    /// Its tasks and those of its descendants.
    fn tasks(&self) -> Option<u64> {
        let file = match self.own.hierarchy {
            Hierarchy::Unified => "cgroup.threads",
            Hierarchy::V1 { .. } => "tasks",
        };
        let count = |directory: &PathBuf| {
            text(&directory.join(file)).map_or_else(
                // A v2 domain of threaded cgroups does not list its threads.
                || {
                    let processes = self.processes(directory).into_iter();
                    processes.filter_map(|pid| process_usage::threads(self.sources, pid)).sum()
                },
                |text| text.lines().count() as u64,
            )
        };
        Some(self.subtree()?.iter().map(count).sum())
    }

    /// The processes of one cgroup.
    fn processes(&self, directory: &Path) -> Vec<u32> {
        if let Some(text) = text(&directory.join("cgroup.procs")) {
            return ids(&text).collect();
        }
        // A threaded v2 cgroup lists threads only; each knows the process it belongs to.
        let threads = text(&directory.join("cgroup.threads")).unwrap_or_default();
        ids(&threads)
            .filter_map(|tid| {
                let status = text(&self.sources.task(tid).join("status"))?;
                keyed(&status, "Tgid:").and_then(|pid| u32::try_from(pid).ok())
            })
            .collect()
    }

    fn subtree(&self) -> Option<Vec<PathBuf>> {
        let walk = walk(&self.directory, self.path, MAX_CGROUPS as usize).ok()?;
        Some(walk.found.into_iter().map(|found| found.directory).collect())
    }
}
