//! The recorder's totals at one moment, as `pipeline` hands them to [`super::Metrics`].
//!
//! Totals count since the recorder's start and never go down. Names become label values, so they
//! come from the recorder's own vocabulary, never from a target.
//!
//! Must not: know where the numbers come from.

use std::collections::BTreeMap;
use std::time::Duration;

use holmes_common::counter::CgroupTotals;

/// Totals by cause, result or other name.
pub type Counts = BTreeMap<String, u64>;

/// Records of one stream: `taken` = `reported` + the sum of `lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Taken by the probes.
    pub taken: u64,
    /// Reached the window.
    pub reported: u64,
    /// Lost, by cause.
    pub lost: Counts,
}

/// Everything that `/metrics` shows but the recorder's own process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// CPU samples.
    pub samples: StreamTotals,
    /// The other streams, by name: `memory`, `tasks`.
    pub records: BTreeMap<String, StreamTotals>,
    /// Stacks that could not be walked or were cut, by cause.
    pub stack_errors: Counts,
    /// Walks of user stacks by how they ended.
    pub stack_walks: Counts,
    /// Unwind tables that the probes can use.
    pub unwind_tables: u64,
    /// What became of unwind tables, by result.
    pub unwind_table_events: Counts,
    /// Time spent on making them.
    pub unwind_seconds: Duration,
    /// What full maps, caches and queues dropped, by cause, where it is no record of a stream.
    pub drops: Counts,
    /// Frames by how they were named.
    pub frames: Counts,
    /// Files whose debug information was not used, by cause.
    pub debug_skipped: Counts,
    /// Debug files asked for at a debuginfod server, by result.
    pub fetches: Counts,
    /// Decisions of the rules, by signal and decision.
    pub decisions: BTreeMap<(String, String), u64>,
    /// Captures by result.
    pub captures: Counts,
    /// Incidents retired, by cause.
    pub retired: Counts,
    /// Folders that should have been retired and could not be.
    pub retention_failures: u64,
    /// Incidents in the dump folder.
    pub incidents: u64,
    /// Their bytes.
    pub incident_bytes: u64,
    /// Bytes of the look-back window.
    pub window_bytes: u64,
    /// Cgroups whose signals are watched.
    pub tracked_cgroups: u64,
    /// The probes.
    pub probes: Vec<ProbeSnapshot>,
    /// The probes' maps.
    pub maps: Vec<MapSnapshot>,
    /// The cgroups that are there; one that is gone is absent.
    pub cgroups: Vec<CgroupSnapshot>,
}

/// A probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeSnapshot {
    /// Its name.
    pub name: String,
    /// Whether it is attached.
    pub up: bool,
    /// How often its program ran.
    pub runs: u64,
    /// How long altogether; zero where the kernel keeps no statistics.
    pub run_time: Duration,
}

/// A map of the probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapSnapshot {
    /// Its name.
    pub name: String,
    /// Entries in use; `None` where they cannot be counted cheaply.
    pub entries: Option<u64>,
    /// Its bound.
    pub max_entries: u64,
}

/// A cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupSnapshot {
    /// Tells two cgroups apart that had one path one after the other. Never shown.
    pub id: u64,
    /// Path from the hierarchy's root: the label. Empty where it is unknown.
    pub path: String,
    /// Whether the user named it: it has series of its own before any other.
    pub named_by_user: bool,
    /// Its totals.
    pub activity: CgroupActivity,
    /// Its resident memory in bytes.
    pub resident_bytes: u64,
    /// Goroutines of its own processes.
    pub goroutines: u64,
}

/// Totals of a cgroup since the probes began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupActivity {
    /// CPU samples taken.
    pub samples: u64,
    /// Successful `mmap` calls.
    pub mmap_calls: u64,
    /// Bytes asked for in them.
    pub mmap_bytes: u64,
    /// `brk` calls that moved the heap's end.
    pub brk_calls: u64,
    /// Bytes by which the heap grew.
    pub brk_bytes: u64,
    /// Bytes unmapped.
    pub munmap_bytes: u64,
    /// Threads created.
    pub threads_created: u64,
}

impl From<&CgroupTotals> for CgroupActivity {
    fn from(totals: &CgroupTotals) -> Self {
        Self {
            samples: totals.samples,
            mmap_calls: totals.mmap_calls,
            mmap_bytes: totals.mmap_bytes,
            brk_calls: totals.brk_calls,
            brk_bytes: totals.brk_grown_bytes,
            munmap_bytes: totals.munmap_bytes,
            threads_created: totals.threads_created,
        }
    }
}
