//! Collect: the ring buffer's bytes become observations.
//!
//! Must not: look at /proc, know cgroup paths, or keep anything.

mod blocked;
pub mod clock;
mod decode;
mod drain;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod observation;
mod wait_cause;

pub use blocked::{Sleeper, Sleepers, read_sleepers};
pub use decode::{Malformed, decode};
pub use drain::{Drained, Drainer};
pub use observation::{CgroupId, Comm, Memory, Nanos, Observation, Stack, StackMemory, Walk, What};
pub use wait_cause::WaitCause;
