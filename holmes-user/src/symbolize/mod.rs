//! Symbolize: addresses become names.
//!
//! Must not: touch a process. It reads the files that the images hold open, and the kernel's own
//! symbol table.

mod table;

pub use table::{Line, Named, SymbolTable};
