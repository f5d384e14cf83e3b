//! What a target uses and may use, as read at one time.

use std::time::Duration;

use super::MemoryLimit;

/// Who counted the CPU time. Times of different clocks cannot be subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// `cpu.stat` of cgroup v2.
    Unified,
    /// `cpuacct.usage` of cgroup v1.
    Cpuacct,
    /// `/proc/PID/stat`.
    Process,
    /// The probes; what they have counted is asked for separately.
    Probes,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// What cannot be taken back without hurting: all but the file pages not used lately.
    pub(super) in_use: u64,
    /// What cannot be taken back at all: anonymous and shared pages, and the kernel's own.
    pub(super) held: u64,
}

/// CPU time, memory and threads of one target, with its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// CPU time since the target began, and who says so.
    pub(super) cpu: (Clock, Duration),
    /// How many CPUs it may use; `None` is all.
    pub(super) cpu_limit: Option<f64>,
    /// Memory.
    pub(super) memory: Option<Memory>,
    /// How many bytes it may use; `None` is all.
    pub(super) memory_limit: Option<u64>,
    /// The nearest limit with what is charged to it; `None` where nothing limits it.
    pub(super) charged: Option<MemoryLimit>,
    /// Tasks.
    pub(super) threads: Option<u64>,
    /// Which incarnation this is: a process's start time in clock ticks, 0 for cgroups. A pid may
    /// be used again.
    pub(super) incarnation: u64,
}
