//! Signals: CPU, memory and threads of each target and of the host, every interval, and the kernel's
//! early warnings that memory runs short.
//!
//! Must not: decide anything.

mod cgroup_memory;
mod cgroup_usage;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod goroutines;
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
mod warning;
mod warning_file;
mod watched;

pub use kernel_log::{KernelKill, KernelLog, Shortage};
pub use memory_report::{Around, CgroupMemory, Mappings, MemoryReport, ProcessMemory};
pub use reader::{MAX_TRACKED, SignalReader};
pub use reading::{MemoryLimit, MemoryUse, Reading, Signal, SignalFrame, Target};
pub use sampled::SampledCpu;
pub use sources::Sources;
pub use warning::Warning;
pub use warning_file::{Raised, WarningFile, WarningPlace};
pub use watched::{WatchError, Watched};
