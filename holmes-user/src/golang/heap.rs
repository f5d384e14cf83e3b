//! The heap profile that a Go program keeps of itself, read from outside.
//!
//! The runtime takes one of so many allocated bytes (`runtime.MemProfileRate`, 512 KiB unless the program
//! says otherwise), and counts for each stack what was allocated and what of that was freed since. A
//! program that does not link what reads the counts does not count.
//!
//! Must not: tell more than the program's own profile would at that moment: its numbers are those of the
//! last collections.

use std::fmt;
use std::time::Duration;

use super::build_info::GoVersion;
use super::error::GoError;
use super::names::GoNames;
use super::process::GoProcess;
use crate::collect::{Nanos, clock};

mod bucket;
mod list;
mod place;
mod text;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use list::{MAX_BUCKETS, MAX_DEPTH, read};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use place::HeapPlace;

pub use text::heap_debug1;

/// A program's heap profile.
#[derive(Clone, Debug)]
pub struct HeapProfile {
    /// Whose.
    pub pid: u32,
    /// The version of Go it was built with.
    pub version: GoVersion,
    /// Bytes that are allocated, on average, from one that is counted to the next.
    pub rate: u64,
    /// What was counted, by stack and size of the allocations; the newest stack first.
    pub buckets: Vec<HeapBucket>,
    /// Whether there are more, older ones, than are read.
    pub is_cut: bool,
    /// When the reading began.
    pub taken: Nanos,
    /// How long it took.
    pub took: Duration,
}

/// Sampled allocations of one size at one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapBucket {
    /// Return addresses in the process, innermost first: each is behind the call. Where functions were
    /// inlined, each of them has one.
    pub stack: Box<[u64]>,
    /// What of it Go's own profiles show: not the runtime's functions that allocate. One address for all
    /// that were inlined into one function.
    pub shown: Box<[u64]>,
    /// What was counted.
    pub counts: HeapCounts,
}

/// Sampled allocations: those that were counted, not those that they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapCounts {
    /// Allocations.
    pub allocs: u64,
    /// Those of them that were freed.
    pub frees: u64,
    /// Their bytes.
    pub alloc_bytes: u64,
    /// Bytes freed.
    pub free_bytes: u64,
}

impl HeapCounts {
    /// Allocations that were not freed.
    pub const fn in_use(&self) -> u64 {
        self.allocs.saturating_sub(self.frees)
    }

    /// Bytes of those.
    pub const fn in_use_bytes(&self) -> u64 {
        self.alloc_bytes.saturating_sub(self.free_bytes)
    }
}

impl fmt::Display for HeapProfile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, version, rate, buckets, .. } = self;
        let more = if self.is_cut { " or more" } else { "" };
        write!(
            out,
            "process {pid} ({version}): its own heap profile, of {}{more} stacks and sizes, one sample \
             for {rate} bytes on average",
            buckets.len()
        )
    }
}

impl GoProcess {
    /// Reads the heap profile that the program keeps.
    ///
    /// # Errors
    /// It keeps none; the process ends or executes another program, its memory cannot be read, or holds
    /// no heap profile as its version of Go keeps it.
    pub fn heap(&self) -> Result<HeapProfile, GoError> {
        let taken = clock::monotonic();
        let place = self.program.heap_place()?.moved(self.bias);
        let found = list::read(&self.target(), &place, &self.memory())?;
        // Another process may have got the number while this one was read.
        self.check_same()?;
        let mut buckets = found.buckets;
        let mut names = GoNames::new(self)?;
        for bucket in &mut buckets {
            bucket.shown = shown(&bucket.stack, &mut names);
        }
        let took = clock::monotonic().since(taken);
        let version = self.program.version.clone();
        let (rate, is_cut) = (found.rate, found.is_cut);
        Ok(HeapProfile { pid: self.pid, version, rate, buckets, is_cut, taken, took })
    }
}

/// The part of a stack that is shown (`writeHeapProto` of `runtime/pprof`): from the first function that
/// is not the runtime's, all of it if there is none, and without the outermost one, which calls all.
fn shown(stack: &[u64], names: &mut GoNames<'_>) -> Box<[u64]> {
    // What is looked up is the return address itself, not the call before it, as there.
    let is_runtime = |address: u64, names: &mut GoNames<'_>| {
        let frames = names.frames(address.wrapping_add(1));
        let name = frames.first().map_or("", |frame| frame.line.function.as_str());
        name.starts_with("runtime.") || name.starts_with("internal/runtime/")
    };
    let hidden = stack.iter().take_while(|&&address| is_runtime(address, names)).count();
    let from = if hidden == stack.len() { 0 } else { hidden };
    let is_outermost = stack.last().is_some_and(|&address| {
        names.frames(address).last().is_some_and(|frame| frame.line.function == "runtime.goexit")
    });
    let to = stack.len() - usize::from(is_outermost && stack.len() > from + 1);
    let mut shown = Vec::new();
    // What the last address of those stands for beside itself: calls that were inlined.
    let mut callers: Vec<u64> = Vec::new();
    for &address in stack.get(from..to).unwrap_or_default() {
        if let Some(found) = callers.iter().position(|&caller| caller == address) {
            callers.drain(..=found);
            continue;
        }
        let frames = names.frames(address);
        callers = frames.iter().skip(1).map(|frame| frame.address).collect();
        shown.push(address);
    }
    shown.into()
}

#[cfg(test)]
mod tests;
