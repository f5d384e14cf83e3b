//! What a target uses and may use, as read at one time.

use std::time::Duration;

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

/// CPU time, memory and threads of one target, with its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// CPU time since the target began, and who says so.
    pub(super) cpu: (Clock, Duration),
    /// How many CPUs it may use; `None` is all.
    pub(super) cpu_limit: Option<f64>,
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
    /// How many bytes it may use; `None` is all.
    pub(super) memory_limit: Option<u64>,
    /// Tasks.
    pub(super) threads: Option<u64>,
    /// Which incarnation this is: a process's start time in clock ticks, 0 for cgroups. A pid may
    /// be used again.
    pub(super) incarnation: u64,
}
