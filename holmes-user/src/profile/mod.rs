//! Profile: pprof and folded files of named cuts, timelines for trace viewers, and what changed between
//! two cuts.
//!
//! Must not: do I/O or read a clock, or look names up. Cuts, names and times come in as arguments.

mod about;
mod file;
mod folded;
mod function;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod mappings;
mod movers;
mod pprof;
pub mod proto;
mod shown;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod validate;

pub use about::About;
pub use file::{DecodeError, decode, write_gz};
pub use folded::write as folded;
pub use movers::{Mover, movers};
pub use pprof::encode;
