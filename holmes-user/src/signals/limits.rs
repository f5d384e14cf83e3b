//! The nearest limits of a cgroup: its own, else that of the next cgroup above that has one.
//!
//! Formats: Documentation/admin-guide/cgroup-v2.rst (`cpu.max`, `memory.max`), cgroup-v1/memory.rst
//! and scheduler/sched-bwc.rst (`cpu.cfs_quota_us`).

use std::path::Path;

use super::sources::{keyed, number, text};
use crate::kernel::cgroupfs::{Hierarchy, Mount};

/// How many CPUs the cgroup may use; `None` where nothing limits it.
pub(super) fn cpus(mount: &Mount, path: &str) -> Option<f64> {
    let quota = match mount.hierarchy {
        Hierarchy::Unified => cpu_max,
        Hierarchy::V1 { .. } => cfs_quota,
    };
    upwards(path).find_map(|path| quota(&mount.directory(path)?))
}

/// How many bytes the cgroup may use; `None` where nothing limits it.
pub(super) fn memory(mount: &Mount, path: &str) -> Option<u64> {
    match mount.hierarchy {
        Hierarchy::Unified => {
            upwards(path).find_map(|path| number(&mount.directory(path)?.join("memory.max")))
        }
        Hierarchy::V1 { .. } => {
            let stat = text(&mount.directory(path)?.join("memory.stat"))?;
            keyed(&stat, "hierarchical_memory_limit")
        }
    }
}

/// The path, and those of the cgroups above it up to the root.
pub(super) fn upwards(path: &str) -> impl Iterator<Item = &str> {
    Path::new(path).ancestors().filter_map(Path::to_str)
}

fn cpu_max(directory: &Path) -> Option<f64> {
    let text = text(&directory.join("cpu.max"))?;
    let mut words = text.split_whitespace();
    let quota = words.next()?.parse().ok()?;
    ratio(quota, words.next()?.parse().ok()?)
}

fn cfs_quota(directory: &Path) -> Option<f64> {
    // -1 stands for no quota.
    let quota = number::<i64>(&directory.join("cpu.cfs_quota_us"))?;
    ratio(u64::try_from(quota).ok()?, number(&directory.join("cpu.cfs_period_us"))?)
}

fn ratio(quota: u64, period: u64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}
