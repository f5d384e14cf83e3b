//! Capture: a spike becomes an incident: look-back, onset, after-window, baseline.
//!
//! Must not: do I/O or read a clock. Time and data come in as arguments, so that a recording can
//! be replayed through it.
//!
//! - `recorder`: [`FlightRecorder`], which takes every [`Input`] and returns incidents;
//! - `pending`: a spike whose after-window is still open;
//! - `looks`: what somebody has to look at for an incident;
//! - `onset`: when a spike began;
//! - `oom`: kills for memory;
//! - `totals`: what it has counted;
//! - `losses`: what the kernel counted, over time;
//! - `input`: everything that reaches the recorder;
//! - `names`: the names found for an incident's addresses, as a recording keeps them;
//! - `recording`: the file format for both.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod incident;
mod input;
mod looks;
mod losses;
mod names;
mod onset;
mod oom;
mod pending;
mod recorder;
pub mod recording;
mod totals;

#[cfg(test)]
mod tests;

pub use incident::{Incident, IncidentCut, Losses, Reason};
pub use input::{
    CaptureSettings, Counters, GoHeapLook, GoroutineLook, Input, LookWanted, MemoryLook, Start,
};
pub use names::{Names, RecordedLine, RecordedName};
pub use oom::{OomKill, OomVictim};
pub use recorder::{FlightRecorder, MAX_PENDING, SETTLE};
pub use totals::{Refused, Totals};
