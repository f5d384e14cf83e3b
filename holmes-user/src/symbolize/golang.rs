//! Names of places in a Go program, from the function table that it carries.
//!
//! Asked before debug information and symbol tables: it tells the same, inlined calls and lines
//! too, is there in stripped programs, and a look-up reads a few pages of it.
//!
//! Must not: answer for code that is not Go's.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::demangle::{MAX_NAME_BYTES, demangle};
use super::stats::Unnamed;
use super::table::{Line, Named};
use crate::binary::{BinaryError, Bytes, Elf, GoLine, GoTable};

/// Look-ups between two looks at the time: each takes some microseconds, in a table that was made
/// to be slow some milliseconds.
const BATCH: usize = 4;

/// Bytes of different names and paths in one file; places beyond are left to others. A profile has
/// some ten thousand places, and their names together about one megabyte.
const MAX_TEXT_BYTES: usize = 32 << 20;

/// What became of one offset; `None` is left to others.
pub(super) type GoAnswer = Option<Result<Arc<Named>, Unnamed>>;

/// The answers for some offsets in a file, in their order.
pub(super) fn name(bytes: Bytes<'_>, offsets: &[u64], deadline: Instant) -> Vec<GoAnswer> {
    ask(bytes, offsets, deadline).unwrap_or_else(|error| {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "no names from Go's function table"
        );
        vec![None; offsets.len()]
    })
}

fn ask(bytes: Bytes<'_>, offsets: &[u64], deadline: Instant) -> Result<Vec<GoAnswer>, BinaryError> {
    let elf = Elf::read(bytes)?;
    let Some(mut table) = GoTable::find(bytes, &elf)? else {
        return Ok(vec![None; offsets.len()]);
    };
    // C functions that Go's linker took in: their names are all it knows of them.
    let only_names = elf.section(".symtab").is_none();
    let mut texts = Texts::default();
    let mut answers = Vec::with_capacity(offsets.len());
    for batch in offsets.chunks(BATCH) {
        if Instant::now() >= deadline {
            break;
        }
        answers.extend(batch.iter().map(|&offset| {
            let address = elf.address_of(offset)?;
            // A malformed part of the table says nothing of the rest.
            let function = table.function_at(address).ok()??;
            if !function.has_lines && !only_names {
                return None;
            }
            let lines = table.lines(&function, address).ok()?;
            let lines: Option<Vec<Line>> = lines.iter().map(|line| texts.line(line)).collect();
            Some(Ok(Arc::new(Named { lines: lines?, module: String::new() })))
        }));
    }
    answers.resize(offsets.len(), Some(Err(Unnamed::OutOfTime)));
    Ok(answers)
}

/// Names and paths, each kept once.
#[derive(Default)]
struct Texts {
    known: HashSet<Arc<str>>,
    bytes: usize,
}

impl Texts {
    fn line(&mut self, line: &GoLine) -> Option<Line> {
        let function = self.shared(&demangle(&line.function))?;
        // No file system has longer paths than that: such a one is no path.
        let file = if line.file.len() <= MAX_NAME_BYTES { &line.file } else { "" };
        Some(Line { function, file: self.shared(file)?, line: line.line })
    }

    fn shared(&mut self, text: &str) -> Option<Arc<str>> {
        if let Some(known) = self.known.get(text) {
            return Some(Arc::clone(known));
        }
        self.bytes += text.len();
        if self.bytes > MAX_TEXT_BYTES {
            return None;
        }
        let new: Arc<str> = text.into();
        self.known.insert(Arc::clone(&new));
        Some(new)
    }
}
