//! Symbolize: addresses become names.
//!
//! An ELF file is never handed to a parser in this process as it is. The target owns it and can cut
//! it short while it is mapped, or fill it with anything. So [`Symbolizer`] copies the symbol
//! tables into memory of its own, within bounds (`excerpt`), and lets a child process without
//! rights read that copy, and map the file itself for its debug information (`worker`). The child
//! ends with the incident. One file is asked at a time: nothing is kept between files, so no name
//! can come from another file.
//!
//! Must not: touch a process. It reads the files that the images hold open, the debug files of the
//! system (`debug_file`) or of a debuginfod server (`debuginfod`), the perf-map files of JIT
//! compilers, and the kernel's own symbol table.

mod collector;
mod compressed;
mod debug_file;
pub mod debuginfod;
mod demangle;
mod elf;
mod excerpt;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod golang;
mod kallsyms;
mod naming;
mod object_names;
mod perf_map;
mod stats;
mod symbolizer;
mod table;
mod wanted;
pub mod worker;

pub use frame::{Frame, Place, frames};
pub use stats::{DebugSkipped, NameStats, NamedBy, Unnamed};
pub use symbolizer::{Name, Recorded, Symbolizer};
pub use table::{Line, Named, SymbolTable};
