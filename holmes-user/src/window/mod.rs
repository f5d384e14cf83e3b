//! Window: the last minutes of observations, exact, in one-second buckets under a memory cap.
//!
//! Must not: do I/O, read a clock, or know rules. Time and data come in as arguments.

mod cut;

pub use cut::{Cut, CutSample, Owner, ProfileKind};
