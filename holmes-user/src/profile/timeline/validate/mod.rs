//! Whether a timeline's file is what its viewers accept, and whether it is true to itself: each slice is on
//! a track that is there, what begins ends, and no thread does two things at once.
//!
//! Sources: the comments of `track_event.proto`, `track_descriptor.proto`, `interned_data.proto` and
//! `trace_packet.proto` of github.com/google/perfetto; Chrome's document "Trace Event Format".
//!
//! Time and memory are linear in the file, and violations are cut at [`MAX_VIOLATIONS`]: a file may come
//! from anywhere.

mod chrome;
mod perfetto;
#[cfg(test)]
mod tests;

use std::fmt;

use prost::Message;

pub use chrome::ChromeChecker;
pub use perfetto::PerfettoChecker;

use super::chrome::ChromeTrace;
use super::proto::TracePacket;
use crate::profile::file::fields;
pub use crate::profile::validate::MAX_VIOLATIONS;

/// A rule of one of the formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The file can be decoded.
    Readable,
    /// A packet has a time, and the clock of all times is known before the first of them.
    Clock,
    /// A packet is of a sequence, whose first one begins it.
    Sequence,
    /// What is referred to was interned before, or in the same packet.
    Interned,
    /// No number is interned twice.
    InternedTwice,
    /// Tracks have a number, and no two the same.
    TrackId,
    /// Tracks and events refer to tracks that are there.
    Track,
    /// Processes and threads have a name, and ids that make sense.
    Named,
    /// An event has a name and a type that is known.
    Event,
    /// On a track times do not go back, and nothing begins before the last one's end.
    Order,
    /// What begins on a track ends there, and takes time.
    Balance,
}

/// A rule broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The number of the packet or event, from 0 on.
    pub at: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} at {}", self.rule, self.at)
    }
}

/// Violations so far.
#[derive(Debug, Default)]
struct Violations {
    list: Vec<Violation>,
    /// The packet or event that is looked at.
    at: u64,
}

impl Violations {
    fn require(&mut self, holds: bool, rule: Rule) {
        if !holds && self.list.len() < MAX_VIOLATIONS {
            self.list.push(Violation { rule, at: self.at });
        }
    }
}

/// Checks a Perfetto trace, unpacked.
///
/// # Errors
/// The violations, at most [`MAX_VIOLATIONS`].
pub fn perfetto(bytes: &[u8]) -> Result<(), Vec<Violation>> {
    let mut checker = PerfettoChecker::default();
    let mut length = 0;
    for packet in fields(bytes) {
        length += 1 + prost::length_delimiter_len(packet.len()) + packet.len();
        match TracePacket::decode(packet) {
            Ok(packet) => checker.packet(&packet),
            Err(_) => return Err(unreadable()),
        }
    }
    if length != bytes.len() {
        return Err(unreadable());
    }
    result(checker.finish())
}

/// Checks a file of Chrome's format, unpacked.
///
/// # Errors
/// The violations, at most [`MAX_VIOLATIONS`].
pub fn chrome(text: &[u8]) -> Result<(), Vec<Violation>> {
    let mut checker = ChromeChecker::default();
    let Ok(trace) = serde_json::from_slice::<ChromeTrace>(text) else { return Err(unreadable()) };
    trace.trace_events.iter().for_each(|event| checker.event(event));
    result(checker.finish())
}

fn unreadable() -> Vec<Violation> {
    vec![Violation { rule: Rule::Readable, at: 0 }]
}

fn result(violations: Vec<Violation>) -> Result<(), Vec<Violation>> {
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}
