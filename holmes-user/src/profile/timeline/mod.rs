//! A named timeline in the formats of trace viewers.
//!
//! Must not: know how a span came about (`window` does), or keep the whole file's messages in memory: each
//! is checked and written as it is made.
//!
//! - `names`: how threads, places and states are called, in both formats alike;
//! - `perfetto`: Perfetto's protocol buffers, and [`proto`], their messages;
//! - `chrome`: Chrome's Trace Event Format, JSON;
//! - [`validate`]: whether a file keeps the rules of its format.

mod chrome;
mod names;
mod perfetto;
pub mod proto;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod validate;

use std::io::{self, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

pub use self::chrome::{ChromeEvent, ChromeTrace};
use self::validate::Violation;
use super::about::About;
use crate::symbolize::SymbolTable;
use crate::window::Timeline;

/// What a timeline is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineFormat {
    /// Perfetto's protocol buffers.
    Perfetto,
    /// Chrome's JSON.
    Chrome,
}

/// A timeline as a file's bytes.
#[derive(Clone, Debug, Default)]
pub struct WrittenTimeline {
    /// The file.
    pub bytes: Vec<u8>,
    /// Spans and samples in it.
    pub events: u64,
    /// Rules of the format that it breaks: a fault of this program.
    pub violations: Vec<Violation>,
}

/// Writes a timeline, packed with gzip if that is asked for (all viewers unpack it). The same timeline and
/// names give the same bytes.
pub fn write(
    timeline: &Timeline,
    symbols: &SymbolTable,
    about: &About,
    format: TimelineFormat,
    packed: bool,
) -> WrittenTimeline {
    let mut out = Out::new(packed);
    let names = names::Names::of(timeline, symbols);
    // Writing to memory does not fail.
    let violations = match format {
        TimelineFormat::Perfetto => perfetto::write(timeline, &names, about, &mut out),
        TimelineFormat::Chrome => chrome::write(timeline, &names, about, &mut out),
    };
    let lines = timeline.threads.iter();
    let events = lines.map(|line| (line.spans.len() + line.samples.len()) as u64).sum();
    WrittenTimeline { bytes: out.finish(), events, violations: violations.unwrap_or_default() }
}

/// A file in memory.
enum Out {
    Plain(Vec<u8>),
    Packed(Box<GzEncoder<Vec<u8>>>),
}

impl Out {
    fn new(packed: bool) -> Self {
        if packed {
            // No time is stored: the same timeline gives the same bytes.
            let packer = GzBuilder::new().mtime(0);
            Self::Packed(Box::new(packer.write(Vec::new(), flate2::Compression::default())))
        } else {
            Self::Plain(Vec::new())
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Packed(packer) => packer.finish().unwrap_or_default(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Packed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
