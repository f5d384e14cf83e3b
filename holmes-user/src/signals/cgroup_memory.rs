//! What the memory controller counts of a cgroup with its descendants, and the limit it grows towards.
//!
//! Formats: Documentation/admin-guide/cgroup-v2.rst (`memory.current`, `memory.stat`, `memory.max`)
//! and cgroup-v1/memory.rst (`memory.usage_in_bytes`, `memory.limit_in_bytes`).
//!
//! Must not: keep anything.

use std::path::Path;

use super::MemoryLimit;
use super::limits::upwards;
use super::sources::{keyed, number, text};
use super::usage::Memory;
use crate::kernel::cgroupfs::{Hierarchy, Mount};

/// v1 writes this or a little more for no limit: the most whole pages that it can count, the largest
/// of which are 64 KiB.
const V1_NO_LIMIT: u64 = i64::MAX as u64 - 0xffff;

/// The memory of a cgroup; `None` where the controller does not count it.
pub(super) fn read(mount: &Mount, path: &str) -> Option<Memory> {
    in_directory(mount.hierarchy, &mount.directory(path)?)
}

/// The same of the cgroup whose files are in this directory.
pub(super) fn in_directory(hierarchy: Hierarchy, directory: &Path) -> Option<Memory> {
    let (usage, inactive, reclaimable): (_, _, &[&str]) = match hierarchy {
        Hierarchy::Unified => {
            ("memory.current", "inactive_file", &["active_file", "slab_reclaimable"])
        }
        // How much of the kernel's own memory could be taken back, v1 does not tell.
        Hierarchy::V1 { .. } => {
            ("memory.usage_in_bytes", "total_inactive_file", &["total_active_file"])
        }
    };
    let usage: u64 = number(&directory.join(usage))?;
    let stat = text(&directory.join("memory.stat"))?;
    let bytes = |key: &str| keyed(&stat, key).unwrap_or(0);
    let in_use = usage.saturating_sub(bytes(inactive));
    let held = reclaimable.iter().fold(in_use, |rest, key| rest.saturating_sub(bytes(key)));
    Some(Memory { in_use, held })
}

/// The nearest limit with what is charged to it; `None` where nothing limits the cgroup.
pub(super) fn nearest_limit(mount: &Mount, path: &str) -> Option<MemoryLimit> {
    let file = match mount.hierarchy {
        Hierarchy::Unified => "memory.max",
        Hierarchy::V1 { .. } => "memory.limit_in_bytes",
    };
    upwards(path).find_map(|path| {
        let limit = number(&mount.directory(path)?.join(file));
        let bytes = limit.filter(|bytes| *bytes < V1_NO_LIMIT)?;
        Some(MemoryLimit { bytes, charged: read(mount, path)?.held })
    })
}
