//! What the host as a whole uses.
//!
//! Must not: keep anything; the reader takes the differences.

use procfs::prelude::*;
use procfs::{KernelStats, LoadAverage, Meminfo};

use super::sources::Sources;

/// CPU time of all CPUs since boot, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostCpu {
    /// Spent working. Time that a hypervisor took away is not work of this host.
    pub(super) busy: u64,
    /// Spent in any way.
    pub(super) total: u64,
    /// CPUs that are online.
    pub(super) cpus: usize,
}

/// CPU, memory and threads of the host. `None` where `/proc` does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostUsage {
    pub(super) cpu: Option<HostCpu>,
    /// Bytes of memory in all.
    pub(super) memory_total: Option<u64>,
    /// Bytes that are not available for new work.
    pub(super) memory_used: Option<u64>,
    /// Tasks.
    pub(super) threads: Option<u64>,
}

impl HostUsage {
    pub(super) fn read(sources: &Sources) -> Self {
        let file = |name| sources.proc.join(name);
        let stat = KernelStats::from_file(file("stat"), procfs::current_system_info()).ok();
        let memory = Meminfo::from_file(file("meminfo")).ok();
        let load = LoadAverage::from_file(file("loadavg")).ok();
        // Before Linux 3.14 nothing says what is available; what is free is the nearest to it.
        let available =
            memory.as_ref().map(|memory| memory.mem_available.unwrap_or(memory.mem_free));
        let memory_total = memory.as_ref().map(|memory| memory.mem_total);
        Self {
            cpu: stat.as_ref().map(host_cpu),
            memory_total,
            memory_used: memory_total.zip(available).map(|(all, free)| all.saturating_sub(free)),
            threads: load.map(|load| u64::from(load.max)),
        }
    }

    pub(super) fn cpus(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.cpus as f64).filter(|cpus| *cpus > 0.0)
    }
}

fn host_cpu(stat: &KernelStats) -> HostCpu {
    let time = &stat.total;
    let or_zero = |ticks: Option<u64>| ticks.unwrap_or(0);
    // Time of guests is part of user and nice already.
    let busy = [time.user, time.nice, time.system, or_zero(time.irq), or_zero(time.softirq)];
    let rest = [time.idle, or_zero(time.iowait), or_zero(time.steal)];
    let sum = |ticks: &[u64]| ticks.iter().fold(0, |sum: u64, ticks| sum.saturating_add(*ticks));
    let busy = sum(&busy);
    HostCpu { busy, total: busy.saturating_add(sum(&rest)), cpus: stat.cpu_time.len() }
}
