//! Naming in a child process. Symbol tables and debug information are hostile input to parsers that
//! others wrote: what recurses without end, takes all memory, loops, or reads a mapped page that
//! its owner has just cut off ends this child, and costs one file's names instead of the recorder.
//!
//! - `client`: the recorder's side: starts the child, asks, and ends it when its time is over;
//! - `server`: the child's side, [`run`];
//! - `limits`: what the child gives up before it reads the first byte;
//! - `wire`: what goes between the two.
//!
//! Must not: trust the child. It has read hostile data.

mod client;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub(super) mod fuzzing;
mod limits;
mod server;
mod wire;

pub(super) use client::{Handed, Worker};
pub use server::run;
