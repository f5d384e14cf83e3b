//! Kernel: loads and attaches the probes, and says which are on and why others are off.
//!
//! Must not: interpret records, or know what they are for.

mod allocator;
mod attach;
mod blocked;
mod btf;
pub mod capabilities;
pub mod cgroupfs;
mod chains;
mod error;
pub mod features;
mod functions;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gauges;
mod globals;
mod iterators;
mod loading;
mod object;
mod probes;
pub mod release;
mod spaces;
mod types;
mod unwind_maps;

pub use allocator::{ALLOCATOR_NAMES, AllocatorFunction};
pub use error::KernelError;
pub use gauges::{KernelCounts, MapUse, ProgramUse};
pub use probes::{ProbeState, ProbeStatus, Probes, SampleEvent, Sampling};
pub use unwind_maps::{LoadedUnwindMaps, UnwindMaps, UnwindRoom};

use std::collections::BTreeSet;

/// Which tasks the probes look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetFilter {
    /// Every task.
    Host,
    /// The cgroups with these inode numbers, and their descendants.
    Cgroups(BTreeSet<u64>),
    /// The processes with these ids.
    Processes(BTreeSet<u32>),
}

/// A probe that can be left out, for what it costs or because something else does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalProbe {
    /// New threads and processes by stack.
    Threads,
    /// Calls that change address spaces.
    Memory,
    /// Touched memory.
    Faults,
    /// Kills for memory.
    Oom,
    /// Where threads leave the CPU.
    Waits,
}

impl OptionalProbe {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Threads, Self::Memory, Self::Faults, Self::Oom, Self::Waits];

    /// Its name, as in [`ProbeStatus`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Memory => "memory",
            Self::Faults => "faults",
            Self::Oom => "oom",
            Self::Waits => "waits",
        }
    }
}

/// What the probes are loaded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// Which tasks they look at.
    pub target: TargetFilter,
    /// The v1 controller whose hierarchy cgroup ids are taken from, by its name in the kernel
    /// (`memory`, `cpu`, `io`, ...); `None` for the unified hierarchy.
    pub controller: Option<String>,
    /// Samples per second and CPU.
    pub frequency: u32,
    /// Which of them are not attached.
    pub without: Vec<OptionalProbe>,
    /// Bytes of touched memory between two fault samples, on average.
    pub fault_interval: u64,
    /// Size of the ring buffer in bytes, a power of two of at least a page.
    pub ring_bytes: u32,
    /// Rows of unwind tables that the kernel has room for, 8 bytes each.
    pub unwind_rows: u32,
    /// Whether each sample brings a copy of its stack's memory.
    pub copy_stacks: bool,
    /// Bytes allocated for each sample where allocations are recorded, and nothing else.
    pub allocation_interval: Option<u64>,
    /// Whether the probes' own diagnostics are switched on.
    pub probe_log: bool,
}
