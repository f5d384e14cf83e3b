//! Unwind: makes the tables that the probes walk stacks by, when they are needed, and keeps them
//! in the room there is.
//!
//! An executable's table is made once, by a worker, of its `.eh_frame`, of Go's function table or of
//! its code, and shared by all processes that map it. What a process has mapped leads to it. By the same tables
//! the stacks of threads that sleep are walked here (`walk`).
//!
//! Must not: read another process, or a clock but to measure its own work. What a table is made of
//! is hostile.

mod blocks;
pub mod compile;
mod executables;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod mappings;
#[cfg(test)]
mod memory;
mod slot;
mod space;
mod stats;
mod unwinder;
mod walk;
mod workers;

pub use stats::UnwindStats;
pub use unwinder::{UnwindError, Unwinder};
pub use walk::{Walked, Walker};
