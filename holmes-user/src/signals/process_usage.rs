//! What a single process uses, and how much its cgroup lets it use.
//!
//! Must not: keep anything; the reader takes the differences.

use std::time::Duration;

use procfs::prelude::*;
use procfs::process::{Stat, StatM};

use super::cgroup_memory;
use super::limits;
use super::sources::{Sources, text};
use super::usage::{Clock, Memory, Usage};
use crate::kernel::cgroupfs::{Hierarchy, Mount};

/// Reads a process; `None` where there is none (any more).
pub(super) fn read(sources: &Sources, pid: u32) -> Option<Usage> {
    let stat = Stat::from_file(sources.task(pid).join("stat")).ok()?;
    // A zombie holds nothing but its exit code; one with threads has only lost its first one.
    if stat.state == 'Z' && stat.num_threads <= 1 {
        return None;
    }
    let ticks = stat.utime.saturating_add(stat.stime);
    let cgroups = text(&sources.task(pid).join("cgroup")).unwrap_or_default();
    Some(Usage {
        cpu: (Clock::Process, duration_of_ticks(ticks)),
        cpu_limit: limit(sources, &cgroups, "cpu", limits::cpus),
        memory: resident(sources, pid),
        memory_limit: limit(sources, &cgroups, "memory", limits::memory),
        charged: limit(sources, &cgroups, "memory", cgroup_memory::nearest_limit),
        threads: u64::try_from(stat.num_threads).ok(),
        incarnation: stat.starttime,
    })
}

/// What is resident of the process. Pages shared with others count for each of them; only its own
/// anonymous ones are held.
pub(super) fn resident(sources: &Sources, pid: u32) -> Option<Memory> {
    let StatM { resident, shared, .. } = StatM::from_file(sources.task(pid).join("statm")).ok()?;
    let bytes = |pages: u64| pages.saturating_mul(procfs::page_size());
    Some(Memory { in_use: bytes(resident), held: bytes(resident.saturating_sub(shared)) })
}

/// Threads of the process.
pub(super) fn threads(sources: &Sources, pid: u32) -> Option<u64> {
    let stat = Stat::from_file(sources.task(pid).join("stat")).ok()?;
    u64::try_from(stat.num_threads).ok()
}

fn duration_of_ticks(ticks: u64) -> Duration {
    let per_second = procfs::ticks_per_second().max(1);
    Duration::from_secs(ticks / per_second)
        + Duration::from_nanos(ticks % per_second * 1_000_000_000 / per_second)
}

/// A limit of the process's cgroup, from a text of lines `number:controllers:path`.
fn limit<T>(
    sources: &Sources,
    cgroups: &str,
    controller: &str,
    nearest: fn(&Mount, &str) -> Option<T>,
) -> Option<T> {
    let layout = &sources.layout;
    cgroups.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let mount = if controllers.is_empty() {
            layout.mount(Hierarchy::Unified)?
        } else {
            let here = controllers.split(',').any(|name| name == controller);
            layout.v1(controller).filter(|_| here)?
        };
        nearest(mount, path)
    })
}
