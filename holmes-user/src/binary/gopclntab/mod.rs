//! Go's function table: what a Go program knows of its own functions, also when it is stripped.
//!
//! Every Go program carries it for its tracebacks: the name, file and line of each instruction, the
//! calls inlined there, and how far the stack pointer has moved. It is read on demand, page by page:
//! large programs have more than 50 MB of it.
//!
//! Format: `runtime/symtab.go`, `runtime.moduledata` and `debug/gosym` of Go's source, for what Go
//! 1.2 and later write. Without inlined calls before Go 1.18, where their place varied.
//!
//! Must not: trust it. A look-up in a malformed table is an error or has no answer, never a panic
//! or a long loop.

mod frames;
mod function;
mod header;
mod lines;
mod module;
mod pages;
#[cfg(test)]
mod tests;

pub use frames::{FrameCounts, FrameRow, FrameRule};
pub use function::{GoFunction, Values};
pub use lines::GoLine;

use super::bytes::{BinaryError, Bytes};
use super::elf::Elf;
use header::{Header, Version};
use module::{Expected, Module};
use pages::Pages;

/// The function table of one file.
#[derive(Debug)]
pub struct GoTable<'a> {
    pages: Pages<'a>,
    header: Header,
    /// Added to entries of the array of functions; 0 before Go 1.18, which wrote addresses.
    text: u64,
    /// Offset in the file of what functions' data is counted from, if it is known.
    data: Option<u64>,
    /// Whether methods may have type arguments of their own, beside those of their type: since Go 1.27.
    has_generic_methods: bool,
    /// Steps done in tables of values: what a look-up costs.
    steps: u64,
}

impl<'a> GoTable<'a> {
    /// Finds the table of a Go program; `None` if the file is something else.
    ///
    /// # Errors
    /// The file cannot be read, or its table cannot be used: it is malformed, or nothing tells at
    /// what address the program's text begins.
    pub fn find(bytes: Bytes<'a>, elf: &Elf) -> Result<Option<Self>, BinaryError> {
        let mut pages = Pages::new(bytes)?;
        let Some(header) = Header::find(bytes, elf, &mut pages)? else { return Ok(None) };
        let mut table =
            Self { pages, header, text: 0, data: None, has_generic_methods: false, steps: 0 };
        let (first, last) = (table.entry(0)?, table.entry(table.header.functions)?);
        if table.header.version >= Version::Go118 {
            let expected = Expected {
                version: table.header.version,
                header: elf.address_of(table.header.start).unwrap_or(0),
                first,
                last,
            };
            let module = Module::find(bytes, elf, expected)?;
            table.has_generic_methods = module.is_some_and(|module| module.is_go127);
            table.data = module.and_then(|module| elf.offset_of(module.data));
            table.text = module.map(|module| module.text).or(table.header.text).ok_or(
                BinaryError::Malformed("nothing tells where the text of the Go program begins"),
            )?;
        }
        if first >= last || !module::is_code(elf, table.text.wrapping_add(first)) {
            return Err(BinaryError::Malformed("Go's function table is about other addresses"));
        }
        Ok(Some(table))
    }
}
