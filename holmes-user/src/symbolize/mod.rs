//! Symbolize: addresses become names.
//!
//! An ELF file is never handed to a parser as it is. The target owns it and can cut it short while
//! it is mapped, or fill it with anything, so [`Symbolizer`] copies the few sections that hold
//! names into memory of its own, within bounds, and lets blazesym read that copy. One file is held
//! at a time: nothing is cached between files, so no name can come from another file, and memory
//! is bounded by the largest excerpt.
//!
//! Must not: touch a process. It reads the files that the images hold open, the debug files of the
//! system, the perf-map files of JIT compilers, and the kernel's own symbol table.

mod compressed;
mod demangle;
mod elf;
mod excerpt;
mod frame;
mod golang;
mod kallsyms;
mod perf_map;
mod stats;
mod symbolizer;
mod table;

pub use frame::{Frame, Place, frames};
pub use stats::{DebugSkipped, NameStats, NamedBy, Unnamed};
pub use symbolizer::{Name, Recorded, Symbolizer};
pub use table::{Line, Named, SymbolTable};
