//! How many goroutines the Go processes of each target have.
//!
//! Must not: take longer than its bound for a reading, whatever processes do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Target;
use super::sources::{Sources, text};
use crate::golang::GoroutineCounter;
use crate::kernel::cgroupfs::Hierarchy;
use crate::process::is_within;

/// Processes asked at a reading. A host has some hundred; those behind are left out.
const MAX_PROCESSES: usize = 1 << 15;
/// Records of goroutines read at a reading, some 100 ms of work: the recorder does nothing else meanwhile.
/// Beyond, a process keeps its last number until the next reading begins with it.
const MAX_RECORDS: u64 = 1 << 18;
/// The same by the clock, for programs that are read for the first time: they may be made so that it takes long.
const MAX_TIME: Duration = Duration::from_millis(250);

/// A Go process, as it was last read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GoProcess {
    goroutines: u64,
    /// Path of its cgroup in the watched hierarchy; empty where unknown.
    cgroup: String,
}

/// The Go processes that were found.
#[derive(Debug)]
pub(super) struct Goroutines {
    counter: GoroutineCounter,
    known: BTreeMap<u32, GoProcess>,
    /// The process that a reading begins with.
    first: u32,
}

impl Goroutines {
    pub(super) fn new(sources: &Sources) -> Self {
        let counter = GoroutineCounter::new(&sources.proc);
        Self { counter, known: BTreeMap::new(), first: 0 }
    }

    /// Asks all processes, or those that are targets themselves.
    pub(super) fn read<'t>(
        &mut self,
        sources: &Sources,
        hierarchy: Option<Hierarchy>,
        targets: impl Iterator<Item = &'t Target>,
    ) {
        let named: Option<Vec<u32>> = targets
            .map(|target| match target {
                Target::Process { pid } => Some(*pid),
                Target::Host | Target::Cgroup { .. } => None,
            })
            .collect();
        let mut pids = named.unwrap_or_else(|| sources.processes());
        pids.truncate(MAX_PROCESSES);
        pids.sort_unstable();
        self.known.retain(|pid, _| pids.binary_search(pid).is_ok());
        let begin = pids.partition_point(|pid| *pid < self.first);
        pids.rotate_left(begin);
        self.first = 0;
        let mut records = 0;
        let began = Instant::now();
        for pid in pids {
            if records >= MAX_RECORDS || began.elapsed() >= MAX_TIME {
                self.first = pid;
                break;
            }
            match self.counter.count(pid) {
                Ok(Some(count)) => {
                    records += count.records;
                    let cgroups = text(&sources.task(pid).join("cgroup")).unwrap_or_default();
                    let path = hierarchy
                        .and_then(|hierarchy| hierarchy.path_in(&cgroups).map(str::to_owned));
                    let cgroup = path.unwrap_or_default();
                    self.known.insert(pid, GoProcess { goroutines: count.goroutines, cgroup });
                }
                Ok(None) => {
                    self.known.remove(&pid);
                }
                Err(error) => {
                    self.known.remove(&pid);
                    // Most often it has just ended; else the command `goroutines` says it at length.
                    tracing::debug!(pid, "no goroutines are counted: {error}");
                }
            }
        }
    }

    /// The goroutines of a target; `None` if it has no Go process.
    pub(super) fn of(&self, target: &Target) -> Option<f64> {
        let mut counts = self.within(target).map(|(_, process)| process.goroutines).peekable();
        counts.peek()?;
        Some(counts.sum::<u64>() as f64)
    }

    /// The Go processes of a target, and the path of their cgroups; those with the most goroutines first.
    pub(super) fn processes(&self, target: &Target) -> Vec<(u32, String)> {
        let mut found: Vec<(u32, &GoProcess)> = self.within(target).collect();
        found.sort_by_key(|(_, process)| std::cmp::Reverse(process.goroutines));
        found.into_iter().map(|(pid, process)| (pid, process.cgroup.clone())).collect()
    }

    /// By path of the cgroup, what its own processes have.
    pub(super) fn by_cgroup(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for process in self.known.values().filter(|process| !process.cgroup.is_empty()) {
            *counts.entry(process.cgroup.as_str()).or_default() += process.goroutines;
        }
        counts
    }

    fn within(&self, target: &Target) -> impl Iterator<Item = (u32, &GoProcess)> {
        let is_its = |pid: u32, process: &GoProcess| match target {
            Target::Host => true,
            Target::Cgroup { path, .. } => is_within(&process.cgroup, path),
            Target::Process { pid: own } => *own == pid,
        };
        let known = self.known.iter().map(|(pid, process)| (*pid, process));
        known.filter(move |(pid, process)| is_its(*pid, process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cgroupfs::Layout;

    #[test]
    fn goroutines_belong_to_cgroups_above_and_to_the_host() {
        let sources = Sources::at(Layout::default(), "/nonexistent");
        let mut goroutines = Goroutines::new(&sources);
        let process =
            |goroutines, cgroup: &str| GoProcess { goroutines, cgroup: cgroup.to_owned() };
        goroutines.known =
            [(7, process(10, "/a/b")), (8, process(5, "/a")), (9, process(1, ""))].into();
        let cgroup = |path: &str| Target::Cgroup { path: path.to_owned(), container: None };
        assert_eq!(goroutines.of(&Target::Host), Some(16.0));
        assert_eq!(goroutines.of(&cgroup("/a")), Some(15.0));
        assert_eq!(goroutines.of(&cgroup("/a/b")), Some(10.0));
        assert_eq!(goroutines.of(&cgroup("/c")), None, "none is not zero");
        assert_eq!(goroutines.of(&Target::Process { pid: 8 }), Some(5.0));
        let first = goroutines.processes(&cgroup("/a"));
        assert_eq!(first, [(7, "/a/b".to_owned()), (8, "/a".to_owned())]);
        goroutines.read(&sources, None, [Target::Host].iter());
        assert_eq!(goroutines.of(&Target::Host), None, "they are gone");
    }
}
