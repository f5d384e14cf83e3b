//! Window: the last minutes of observations, exact, in one-second buckets under a memory cap.
//!
//! Must not: do I/O, read a clock, or know rules. Time and data come in as arguments.
//!
//! - `ring`: [`Window`], the buckets in order of time, and what falls out of them;
//! - `bucket`: one second: values by owner and stack;
//! - `intern`: each distinct stack and owner once, with exact equality;
//! - `resident`: which touched pages are in use, and who touched them first;
//! - `sites`: the owners and stacks that ledgers refer to;
//! - `threads`: which threads are alive, and where they were created;
//! - `timeline`: what threads did lately, one by one: [`Timeline`];
//! - `waits`: which threads wait, since when, and with which stack;
//! - `tally`: how many observations each second kept and lost;
//! - `stats`: the window in numbers;
//! - `sample`: what an observation counts for in which profile;
//! - `cut`: a piece of the window, on its way to becoming a profile;
//! - `cutting`: how it is taken out;
//! - `goroutines`: a snapshot of goroutines as such a piece;
//! - `allocations`: [`AllocationLedger`], sampled allocations in place of a window.

mod allocations;
mod bucket;
mod cut;
mod cutting;
mod go_heap;
mod goroutines;
mod intern;
mod owner;
mod resident;
mod ring;
mod sample;
mod sites;
mod stats;
mod tally;
mod threads;
mod timeline;
mod waits;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use allocations::{AllocationLedger, AllocationStats};
pub use cut::{Cut, CutSample, Detail, Labels, MAX_VALUES, Owner, ProfileKind, Values, pair};
pub use go_heap::{HeapNote, HeapSample, ProcessHeap, go_heap_cut};
pub use goroutines::{GoroutineSample, ProcessGoroutines, goroutine_cut};
pub use resident::ResidentStats;
pub use ring::{MAX_SPAN_SECONDS, Window};
pub use sample::Fate;
pub use stats::WindowStats;
pub use tally::{PerKind, SpanTally};
pub use threads::ThreadStats;
pub use timeline::{Doubt, RunSample, Span, State, ThreadLine, Timeline, TimelineStats, WaitSpan};
pub use waits::WaitStats;
