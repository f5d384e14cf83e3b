//! Reads the signals of every watched target, and takes the differences between two readings.
//!
//! Must not: decide anything, or read a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::goroutines::Goroutines;
use super::host_usage::{HostCpu, HostUsage};
use super::sources::Sources;
use super::usage::{Clock, Usage};
use super::{
    Around, MemoryReport, MemoryUse, Reading, Signal, SignalFrame, Target, WarningPlace,
    cgroup_usage, memory_report, process_usage,
};
use crate::collect::Nanos;
use crate::kernel::cgroupfs::{Hierarchy, Located};
use crate::process::{Cgroup, Container};

/// Targets that are read at one time. A Kubernetes node runs some hundred containers at most, and
/// reading one costs some ten system calls.
pub const MAX_TRACKED: usize = 1024;

/// What there is to say about one target.
#[derive(Debug, Default)]
struct Tracked {
    /// The last reading of its CPU time, the incarnation it was of, and when it was.
    last: Option<(Nanos, Usage)>,
}

/// Reads CPU, memory, threads and goroutines of the watched targets.
#[derive(Debug)]
pub struct SignalReader {
    sources: Sources,
    /// The hierarchy of the watched cgroups; `None` on a host without any.
    hierarchy: Option<Hierarchy>,
    /// In the order of the readings.
    targets: BTreeMap<Target, Tracked>,
    host: Option<HostCpu>,
    goroutines: Goroutines,
    left_out: usize,
    absent: usize,
}

impl SignalReader {
    /// Watches the host, and the cgroups of the watched hierarchy that
    /// [`SignalReader::set_cgroups`] is told of.
    pub fn of_host(sources: Sources) -> Self {
        let hierarchy = sources.layout.watched().map(|mount| mount.hierarchy);
        Self::new(sources, hierarchy, [Target::Host])
    }

    /// Watches these cgroups of one hierarchy, each with its descendants.
    pub fn of_cgroups(sources: Sources, cgroups: &[Located]) -> Self {
        let hierarchy = cgroups.first().map(|cgroup| cgroup.hierarchy);
        let target = |cgroup: &Located| Target::Cgroup {
            path: cgroup.path.clone(),
            container: Container::from_path(&cgroup.path),
        };
        Self::new(sources, hierarchy, cgroups.iter().map(target))
    }

    /// Watches these processes.
    pub fn of_processes(sources: Sources, pids: &[u32]) -> Self {
        Self::new(sources, None, pids.iter().map(|&pid| Target::Process { pid }))
    }

    fn new(
        sources: Sources,
        hierarchy: Option<Hierarchy>,
        targets: impl IntoIterator<Item = Target>,
    ) -> Self {
        let mut all: BTreeMap<_, _> =
            targets.into_iter().map(|target| (target, Tracked::default())).collect();
        let left_out = all.len().saturating_sub(MAX_TRACKED);
        while all.len() > MAX_TRACKED {
            all.pop_last();
        }
        let goroutines = Goroutines::new(&sources);
        Self { sources, hierarchy, targets: all, host: None, goroutines, left_out, absent: 0 }
    }

    /// Where the whole host is watched: the cgroups that exist and have processes. Those that were
    /// read before stay, so that a crowd of new ones does not break their history; of the new ones
    /// the first get what room there is, and the rest is counted as left out. The root is left to
    /// [`Target::Host`]. Without effect where single cgroups or processes are watched.
    pub fn set_cgroups(&mut self, populated: &[Arc<Cgroup>]) {
        if !self.targets.contains_key(&Target::Host) {
            return;
        }
        let targets = populated.iter().filter(|cgroup| cgroup.path.len() > 1).map(|cgroup| {
            let (path, container) = (cgroup.path.clone(), cgroup.container.clone());
            Target::Cgroup { path, container }
        });
        let mut before = std::mem::take(&mut self.targets);
        let mut fresh = Vec::new();
        self.targets.extend(before.remove_entry(&Target::Host));
        for target in targets {
            match before.remove_entry(&target) {
                Some(known) => self.targets.extend([known]),
                None => fresh.push(target),
            }
        }
        self.left_out = 0;
        for target in fresh {
            if self.targets.len() < MAX_TRACKED {
                self.targets.insert(target, Tracked::default());
            } else {
                self.left_out += 1;
            }
        }
    }

    /// The targets that are read, in the order of the readings.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.keys()
    }

    /// Targets that are not read because there are too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Targets that could not be read the last time, most often because they are gone.
    pub fn absent(&self) -> usize {
        self.absent
    }

    /// Memory in use of the cgroups and processes when they were last read, in bytes.
    pub fn memory(&self) -> impl Iterator<Item = (&Target, u64)> {
        self.targets.iter().filter_map(|(target, tracked)| {
            let (_, usage) = tracked.last.as_ref()?;
            Some((target, usage.memory?.in_use))
        })
    }

    /// The Go processes of a target when they were last read, each with the path of its cgroup; those
    /// with the most goroutines first.
    pub fn go_processes(&self, target: &Target) -> Vec<(u32, String)> {
        self.goroutines.processes(target)
    }

    /// Goroutines when they were last read, by the path of the processes' own cgroup.
    pub fn goroutines(&self) -> BTreeMap<&str, u64> {
        self.goroutines.by_cgroup()
    }

    /// Where the kernel's early warnings about the targets are: of the host, and of cgroups v2 that
    /// the user named or that have a limit. Those of v1, and single processes, have none.
    pub fn warning_places(&self) -> impl Iterator<Item = WarningPlace> {
        let named = !self.targets.contains_key(&Target::Host);
        let unified = self.sources.layout.unified();
        let unified = unified.filter(|mount| self.hierarchy == Some(mount.hierarchy));
        self.targets.iter().filter_map(move |(target, tracked)| match target {
            Target::Host => {
                let pressure = self.sources.proc.join("pressure/memory");
                Some(WarningPlace { target: target.clone(), pressure, cgroup: None })
            }
            Target::Cgroup { path, .. } => {
                let limited = || tracked.last.is_some_and(|(_, usage)| usage.charged.is_some());
                let directory = unified?.directory(path).filter(|_| named || limited())?;
                let pressure = directory.join("memory.pressure");
                Some(WarningPlace { target: target.clone(), pressure, cgroup: Some(directory) })
            }
            Target::Process { .. } => None,
        })
    }

    /// Where the memory of one target is now.
    pub fn memory_report(&self, target: &Target) -> MemoryReport {
        memory_report::read(&self.sources, self.hierarchy, target)
    }

    /// Who has memory in a cgroup now, or on the host.
    pub fn memory_around(&self, cgroup: Option<String>) -> Around {
        memory_report::around(&self.sources, self.hierarchy, cgroup)
    }

    /// Reads every target. `sampled_cpu` is the CPU time that the probes have seen a target use
    /// since the last call; it is asked only where nothing else counts it. The first reading of a
    /// target has no CPU value: there is nothing yet to compare with.
    pub fn read(
        &mut self,
        now: Nanos,
        sampled_cpu: &dyn Fn(&Target) -> Option<Duration>,
    ) -> SignalFrame {
        let host = HostUsage::read(&self.sources);
        let host_cpu =
            self.host.zip(host.cpu).and_then(|(before, after)| percent_busy(before, after));
        self.host = host.cpu.or(self.host);
        self.absent = 0;
        self.goroutines.read(&self.sources, self.hierarchy, self.targets.keys());
        let mut readings = Vec::with_capacity(Signal::VALUES.len() * self.targets.len());
        let mut uses = Vec::with_capacity(self.targets.len());
        for (target, tracked) in &mut self.targets {
            let usage = match target {
                Target::Host => {
                    let memory = percent(host.memory_used, host.memory_total);
                    uses.extend(host.memory_used.map(|bytes| MemoryUse {
                        target: target.clone(),
                        bytes,
                        limit: None,
                    }));
                    let threads = host.threads.map(as_value);
                    let goroutines = self.goroutines.of(target);
                    add(&mut readings, target, [host_cpu, memory, threads, goroutines]);
                    continue;
                }
                Target::Cgroup { path, .. } => self.hierarchy.and_then(|hierarchy| {
                    cgroup_usage::read(&self.sources, hierarchy, path, &host)
                }),
                Target::Process { pid } => process_usage::read(&self.sources, *pid),
            };
            // Another process with the same pid is not the one that is watched.
            let usage = usage.filter(|usage| {
                tracked.last.is_none_or(|(_, last)| last.incarnation == usage.incarnation)
            });
            let Some(usage) = usage else {
                self.absent += 1;
                continue;
            };
            let cpu = tracked
                .last
                .and_then(|(then, last)| {
                    cpu_used(&last, &usage, || sampled_cpu(target)).zip(Some(then))
                })
                .and_then(|(used, then)| percent_of_limit(used, now.since(then), &usage, &host));
            let in_use = usage.memory.map(|memory| memory.in_use);
            let memory = percent(in_use, lower(usage.memory_limit, host.memory_total));
            let (threads, goroutines) = (usage.threads.map(as_value), self.goroutines.of(target));
            add(&mut readings, target, [cpu, memory, threads, goroutines]);
            uses.extend(usage.memory.map(|memory| {
                MemoryUse {
                    target: target.clone(),
                    bytes: memory.held,
                    // A limit above what there is limits nothing.
                    limit: usage
                        .charged
                        .filter(|limit| host.memory_total.is_none_or(|total| limit.bytes < total)),
                }
            }));
            tracked.last = Some((now, usage));
        }
        SignalFrame { time: now, host_cpu: host_cpu.unwrap_or(0.0), readings, memory: uses }
    }
}

/// Adds what is known of a target, in the order of [`Signal::VALUES`].
fn add(readings: &mut Vec<Reading>, target: &Target, values: [Option<f64>; Signal::VALUES.len()]) {
    for (signal, value) in Signal::VALUES.into_iter().zip(values) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            readings.push(Reading { target: target.clone(), signal, value });
        }
    }
}

/// CPU time between two readings; `None` where they cannot be compared.
fn cpu_used(
    last: &Usage,
    usage: &Usage,
    sampled: impl FnOnce() -> Option<Duration>,
) -> Option<Duration> {
    let ((clock_before, before), (clock, after)) = (last.cpu, usage.cpu);
    if clock != clock_before {
        None
    } else if clock == Clock::Probes {
        sampled()
    } else {
        // It runs backwards when a cgroup was made anew.
        after.checked_sub(before)
    }
}

fn percent_of_limit(
    used: Duration,
    elapsed: Duration,
    usage: &Usage,
    host: &HostUsage,
) -> Option<f64> {
    // A limit above what there is limits nothing.
    let cpus = match (usage.cpu_limit, host.cpus()) {
        (Some(limit), Some(online)) => limit.min(online),
        (limit, online) => limit.or(online)?,
    };
    (!elapsed.is_zero()).then(|| 100.0 * used.as_secs_f64() / (elapsed.as_secs_f64() * cpus))
}

fn percent_busy(before: HostCpu, after: HostCpu) -> Option<f64> {
    // The kernel's idle and iowait times may step back a little.
    let total = after.total.checked_sub(before.total).filter(|total| *total > 0)?;
    let busy = after.busy.saturating_sub(before.busy).min(total);
    Some(100.0 * busy as f64 / total as f64)
}

fn percent(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
    Some(100.0 * part as f64 / whole as f64)
}

/// The lower of two bounds, either of which may be missing.
fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

fn as_value(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod made_up_host;

#[cfg(test)]
mod tests;
