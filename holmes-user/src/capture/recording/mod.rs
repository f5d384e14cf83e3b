//! The recording: a flight recorder's input as a file, for `replay`.
//!
//! JSON lines: a header with the version, the start, then every input in order. Images and cgroups
//! are written once, before the first observation that refers to them. A file that ends in the
//! middle of a line, because the recorder or the host died, is read up to there.
//!
//! Must not: open files. The pipeline says where the bytes come from and go to.
//!
//! - `line`: the lines, as they are in the file;
//! - `writer`: inputs become lines;
//! - `reader`: lines, which anybody may have written, become inputs.

mod line;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Problem, ReadError, Reader, read_names};
pub use writer::Writer;

/// The version this program writes, and the only one it reads.
pub const VERSION: u32 = 2;

/// The longest line, in bytes. An image of a process with 65,530 mappings (the kernel's limit) and
/// ordinary paths fits.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Images, and cgroups, that lines may refer to at the same time. When the writer has defined more,
/// it forgets them all and begins anew, and tells the reader to do the same.
const MAX_DEFINITIONS: usize = 65_536;

/// Names written in one line, so that it stays far below the limit.
const NAMES_PER_LINE: usize = 4096;
