//! Golang: the goroutines of a running Go process, and its own heap profile, read from outside.
//!
//! Go's runtime keeps a list of all goroutines, and one of what was allocated where ([`HeapProfile`]).
//! Where they are, its code says ([`GoProgram`]); what an entry looks like in memory follows from the
//! version of Go, or from the program's debug information. The memory is read by `process_vm_readv`, many places at once, while the process runs:
//! whatever changes meanwhile is noticed and read again.
//!
//! Must not: stop the process, write to it, or believe it. Its memory may hold anything: every count is
//! bounded, every pointer checked, and what does not fit together is an error for this process.

mod build_info;
mod compare;
mod count;
mod debug1;
mod debug2;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod goroutine;
mod heap;
mod labels;
mod layout;
mod list;
mod locate;
mod locks;
mod memory;
mod names;
mod own_layout;
mod pages;
mod process;
mod program;
mod record;
mod snapshot;
mod stacks;
mod target;
mod text;
mod traceback_labels;
mod wait_reason;
mod walk;

pub use build_info::GoVersion;
pub use compare::Blocked;
pub use count::{GoroutineCount, GoroutineCounter};
pub use error::GoError;
pub use goroutine::{Goroutine, Snapshot, Stack, StackEnd, State};
pub use heap::{HeapBucket, HeapCounts, HeapProfile, heap_debug1};
pub use labels::LabelSet;
pub use names::GoNames;
pub use process::GoProcess;
pub use program::GoProgram;

pub use debug1::debug1;
pub use debug2::debug2;
pub use text::text;
