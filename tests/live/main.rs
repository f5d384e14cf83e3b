//! The recorder against real processes on the running kernel, as root.
//!
//! Every test takes the machine for itself, so the number of test threads does not matter. Shares
//! and counts are asserted, times never are: waiting is bounded only to end a test that hangs.

mod allocations;
mod bad_input;
mod cases;
#[cfg(target_arch = "x86_64")]
mod goheap;
#[cfg(target_arch = "x86_64")]
mod goroutines;
mod jit;
mod languages;
mod leak;
mod lifecycle;
mod losses;
mod memory;
mod metrics;
mod oom;
mod processes;
mod reload;
mod resident;
#[cfg(target_arch = "x86_64")]
mod runtimes;
mod shares;
mod spike;
mod targets;
mod threads;
mod timeline;
mod triggers;
#[cfg(target_arch = "x86_64")]
mod unwind;
mod verifier;
mod waits;
