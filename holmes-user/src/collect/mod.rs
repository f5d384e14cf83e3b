//! Collect: the ring buffer's bytes become observations.
//!
//! Must not: look at /proc, know cgroup paths, or keep anything.

mod observation;

pub use observation::{CgroupId, Comm, Nanos, Observation, Stack, What};
