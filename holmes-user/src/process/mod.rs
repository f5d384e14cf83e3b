//! Process: whose an observation is. Keeps the mapped images of processes while they live, and the
//! cgroups' paths.
//!
//! Must not: aggregate, or decide what is worth keeping.

mod allocator;
mod attributed;
mod attributor;
pub(crate) mod cgroup_walk;
mod cgroups;
mod container;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod lock_holder;
mod maps;
mod objects;
mod pagemap;
mod perf_map;
mod stack_memory;
mod table;
mod unplaced;

pub use allocator::{Allocator, AllocatorError, find_allocator};
pub use attributed::{Attributed, Cgroup, Container, is_within};
pub use attributor::Attributor;
pub use cgroups::CgroupIndex;
pub use image::{Image, Mapping, Object, ObjectKind};
pub use lock_holder::{LockHolder, lock_holders};
pub use perf_map::perf_map;
pub use stack_memory::StackMemory;
pub use table::{ProcessStats, ProcessTable, start_time};
