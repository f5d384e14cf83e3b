//! Capture: a spike becomes an incident: look-back, onset, after-window, baseline.
//!
//! Must not: do I/O or read a clock. Time and data come in as arguments, so that a recording can
//! be replayed through it.

mod incident;

pub use incident::{Incident, IncidentCut, Losses, Reason};
