//! What is watched, and what was read of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::collect::Nanos;
use crate::process::{Attributed, Cgroup, Container};

/// What a rule watches and an incident is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The host as a whole.
    Host,
    /// A cgroup with its descendants.
    Cgroup {
        /// Path from the watched hierarchy's root, beginning with `/`.
        path: String,
        /// The container, if the path names one.
        container: Option<Container>,
    },
    /// One process.
    Process {
        /// Its id, in the initial pid namespace.
        pid: u32,
    },
}

impl Target {
    /// Whether an observation of this process in this cgroup belongs to the target.
    pub fn holds(&self, tgid: u32, cgroup: &Cgroup) -> bool {
        match self {
            Self::Host => true,
            Self::Cgroup { path, .. } => cgroup.is_within(path),
            Self::Process { pid } => tgid == *pid,
        }
    }

    /// Whether an observation belongs to the target.
    pub fn owns(&self, attributed: &Attributed) -> bool {
        self.holds(attributed.observation.tgid, &attributed.cgroup)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => write!(out, "host"),
            Self::Cgroup { path, .. } => write!(out, "cgroup {path}"),
            Self::Process { pid } => write!(out, "pid {pid}"),
        }
    }
}

/// A watched quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Percent of the target's own CPU limit, else of all CPUs.
    Cpu,
    /// Percent of the target's own memory limit, else of the host's memory.
    Memory,
    /// Number of tasks.
    Threads,
    /// Number of goroutines of its Go processes.
    Goroutines,
    /// Growth of memory over minutes, bytes per second: [`MemoryUse`], of which the rules make it.
    Leak,
    /// Early warnings of the kernel that memory runs short: events, no values.
    Psi,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 6] =
        [Self::Cpu, Self::Memory, Self::Threads, Self::Goroutines, Self::Leak, Self::Psi];

    /// Those that are read as values, in the order of the readings.
    pub const VALUES: [Self; 4] = [Self::Cpu, Self::Memory, Self::Threads, Self::Goroutines];

    /// The name in rules, folders, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Threads => "threads",
            Self::Goroutines => "goroutines",
            Self::Leak => "leak",
            Self::Psi => "psi",
        }
    }
}

/// One value of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Of what.
    pub target: Target,
    /// Which quantity.
    pub signal: Signal,
    /// In the signal's unit.
    pub value: f64,
}

/// The memory of one target that the kernel cannot take back but by killing or swapping: without
/// page cache, which grows as long as there is room and is no leak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Whose.
    pub target: Target,
    /// How much, in bytes.
    pub bytes: u64,
    /// The nearest limit; `None` where nothing but the host's memory limits it.
    pub limit: Option<MemoryLimit>,
}

/// A limit of memory, of a target's cgroup or of the nearest one above it that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// What it allows, in bytes.
    pub bytes: u64,
    /// What of it is in use and cannot be taken back, by whomever, in bytes.
    pub charged: u64,
}

/// Everything that was read at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalFrame {
    /// When.
    pub time: Nanos,
    /// CPU use of the host since the last frame, percent of all CPUs: what `cpu_max` looks at.
    pub host_cpu: f64,
    /// The values, in a fixed order. Targets that are gone are absent.
    pub readings: Vec<Reading>,
    /// The memory of each target, in the same order. Recordings of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryUse>,
}
