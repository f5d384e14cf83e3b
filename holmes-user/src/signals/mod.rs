//! Signals: CPU, memory and threads of each target and of the host, every interval.
//!
//! Must not: decide anything.

mod reading;

pub use reading::{Reading, Signal, SignalFrame, Target};
