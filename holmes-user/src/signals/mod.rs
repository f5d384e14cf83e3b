//! Signals: CPU, memory and threads of each target and of the host, every interval.
//!
//! Must not: decide anything.

mod cgroup_usage;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod host_usage;
mod kernel_log;
mod limits;
mod memory_report;
mod process_usage;
mod reader;
mod reading;
mod sampled;
mod sources;
mod usage;
mod watched;

pub use kernel_log::{KernelKill, KernelLog};
pub use memory_report::{CgroupMemory, Mappings, MemoryReport, ProcessMemory};
pub use reader::{MAX_TRACKED, SignalReader};
pub use reading::{Reading, Signal, SignalFrame, Target};
pub use sampled::SampledCpu;
pub use sources::Sources;
pub use watched::{WatchError, Watched};
