//! Binary: bounded readers of executable files, for whoever needs a part of them.
//!
//! A target owns its executables: it may fill them with anything, and cut them short while they are
//! read. So nothing here maps a file, every read is positioned and bounded by the caller, and every
//! number of the file is checked before it is used.
//!
//! Must not: know processes, or what the parts are for.

mod build_id;
mod bytes;
mod debug_info;
mod elf;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gopclntab;
mod symbols;
mod vdso;

pub use build_id::build_id;
pub use bytes::{BinaryError, Bytes, u16_at, u32_at, u64_at};
pub use debug_info::{DebugFacts, StructFacts};
pub use elf::{Elf, Section, Segment};
pub use gopclntab::{FrameCounts, FrameRow, FrameRule, GoFunction, GoLine, GoTable, Values};
pub use symbols::{SymbolTableKind, functions, variables};
pub use vdso::{VdsoError, vdso};
