//! From an executable file to its table.
//!
//! A file is hostile: it may hold nothing but contradictions, or be written to cost as much as
//! possible. So sizes, frames, pages, rows and the bytes evaluated are bounded; what is beyond is no
//! table, never half of one.
//!
//! Must not: map a file, or know where the table goes.

mod code;
mod frames;
mod golang;
mod layout;
mod rules;
mod table;
mod trampolines;

use gimli::{DebugFrame, EhFrame, LittleEndian, UnwindSection};
use holmes_common::unwind::{CfaKind, Row};
use thiserror::Error;

use self::frames::{Entry, Frames, Kind};
pub use self::layout::{Layout, Part};
pub use self::table::Table;
use self::table::{Builder, GAP};
use crate::binary::{BinaryError, Bytes, Elf, u64_at};

/// Bytes of an `.eh_frame` section. Large ones: librustc_driver's has 9 MiB, a browser's 20.
const MAX_SECTION_BYTES: u64 = 64 << 20;

/// Bytes evaluated of one file: what its frames say, with what they share counted for each of them.
/// Honest ones are evaluated about twice, at worst; a hostile one can have all its frames share a
/// description that is as long as the section.
const MAX_WORK_BYTES: u64 = 4 * MAX_SECTION_BYTES;

/// Functions that lie so close are taken for neighbours: between them is padding to the next
/// multiple of 16, which is never executed.
const MAX_PADDING_BYTES: u64 = 16;

/// `e_entry` in the file's header.
const ENTRY_POINT: usize = 24;

/// Code at a program's beginning, up to its first call: musl has 22 bytes on x86-64.
const ENTRY_BYTES: u64 = 32;

/// What a table may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: u32,
    /// Pages: the addresses from the first to the last function, in units of 64 KiB.
    pub pages: u32,
}

impl Default for Limits {
    /// 7 M rows: six times what the largest libraries have (libLLVM: 1.2 M). 64 Ki pages: 4 GiB of
    /// code, more than calls can span.
    fn default() -> Self {
        Self { rows: 7_000_000, pages: 65_536 }
    }
}

/// What an executable file gives.
#[derive(Debug)]
pub struct Compiled {
    /// Where its bytes are in memory; empty if it is no ELF file.
    pub layout: Layout,
    /// Its table.
    pub outcome: Outcome,
}

/// The table of a file, or why it has none.
#[derive(Debug)]
pub enum Outcome {
    /// The table.
    Table(Table),
    /// There is nothing to make one of, or it is too large.
    None(NoTable),
}

/// Why a file has no table.
#[derive(Debug, Error)]
pub enum NoTable {
    /// It could not be read, or is no such file.
    #[error("cannot read the headers or frames")]
    Unreadable(#[from] BinaryError),
    /// It was built for another processor.
    #[error("it was built for another kind of processor")]
    Machine,
    /// It has no frames for its code, and the code itself told nothing.
    #[error("it has no .eh_frame or .debug_frame for its code")]
    NoFrames,
    /// Section, frames, rows or pages are more than allowed.
    #[error("its frames are more than can be held: {0}")]
    TooLarge(&'static str),
    /// Its maker failed on it; the file's fault, but ours to mend.
    #[error("making its table failed by a defect of the recorder")]
    Defect,
}

impl NoTable {
    /// Every [`Self::name`].
    pub const NAMES: [&str; 5] = ["unreadable", "machine", "no_frames", "too_large", "defect"];

    /// The name used in metrics.
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Its place in [`Self::NAMES`].
    pub(super) fn index(&self) -> usize {
        match self {
            Self::Unreadable(_) => 0,
            Self::Machine => 1,
            Self::NoFrames => 2,
            Self::TooLarge(_) => 3,
            Self::Defect => 4,
        }
    }
}

/// Makes the table of an executable file.
pub fn compile(bytes: Bytes<'_>, limits: Limits) -> Compiled {
    let elf = match Elf::read(bytes) {
        Ok(elf) => elf,
        Err(error) => {
            let outcome = Outcome::None(error.into());
            return Compiled { layout: Layout::default(), outcome };
        }
    };
    let layout = match Layout::new(&elf, bytes) {
        Ok(layout) => layout,
        Err(error) => {
            let outcome = Outcome::None(error.into());
            return Compiled { layout: Layout::default(), outcome };
        }
    };
    let outcome = match table(bytes, &elf, &layout, limits) {
        Ok(table) => Outcome::Table(table),
        Err(reason) => Outcome::None(reason),
    };
    Compiled { layout, outcome }
}

fn table(bytes: Bytes<'_>, elf: &Elf, layout: &Layout, limits: Limits) -> Result<Table, NoTable> {
    let machine = rules::Machine::of(elf).ok_or(NoTable::Machine)?;
    let found = match frames::section(bytes, elf) {
        // A static Go program: it has a table of its own.
        Err(NoTable::NoFrames) => frames::Section::default(),
        found => found?,
    };
    let known = Known { bytes, elf, layout, machine, limits };
    let (data, bases) = (found.data.as_slice(), &found.bases);
    if found.is_debug_frame {
        let mut section = DebugFrame::new(data, LittleEndian);
        section.set_vendor(machine.vendor());
        let frames = Frames::index(section, data, bases, machine, layout, MAX_WORK_BYTES)?;
        assemble(frames, &known)
    } else {
        let mut section = EhFrame::new(data, LittleEndian);
        section.set_vendor(machine.vendor());
        let frames = Frames::index(section, data, bases, machine, layout, MAX_WORK_BYTES)?;
        assemble(frames, &known)
    }
}

/// What is known of a file besides its frames.
struct Known<'a> {
    bytes: Bytes<'a>,
    elf: &'a Elf,
    layout: &'a Layout,
    machine: rules::Machine,
    limits: Limits,
}

/// Goes through the functions by address and writes down what holds in each.
fn assemble<'a, S: UnwindSection<frames::Reader<'a>>>(
    mut frames: Frames<'a, S>,
    known: &Known<'_>,
) -> Result<Table, NoTable> {
    let mut entries = std::mem::take(&mut frames.entries);
    golang::add(known, &mut entries)?;
    trampolines::add(known, &mut entries);
    code::add(known, &mut entries);
    add_entry_point(known, &mut entries);
    if entries.is_empty() {
        return Err(NoTable::NoFrames);
    }
    let of = |kind: CfaKind| Row { cfa_kind: kind as u8, ..Row::default() };
    let mut builder = Builder::new(known.limits);
    let mut covered = None;
    for entry in entries {
        let begin = covered.map_or(entry.begin, |covered| entry.begin.max(covered));
        if begin >= entry.end {
            continue; // The one before says something else of the same code.
        }
        if let Some(covered) = covered
            && begin - covered >= MAX_PADDING_BYTES
        {
            builder.push(covered, GAP)?;
        }
        match entry.kind {
            Kind::Signal => builder.push(begin, of(CfaKind::Signal))?,
            Kind::Rule(row) => builder.push(begin, row)?,
            Kind::Frame { offset } => {
                frames.rows(offset, |start, row| {
                    if start < entry.end { builder.push(start.max(begin), row) } else { Ok(()) }
                })?;
            }
        }
        covered = Some(entry.end);
    }
    builder.finish(covered.unwrap_or_default())
}

/// Where a program begins nothing has called it. glibc says so itself; musl and the dynamic loader
/// do not.
fn add_entry_point(known: &Known<'_>, entries: &mut Vec<Entry>) {
    let begin = u64_at(&known.elf.header, ENTRY_POINT);
    let Some(part) = known.layout.code(begin) else { return };
    let after = entries.partition_point(|entry| entry.begin <= begin);
    let covered = entries[..after].last().is_some_and(|before| begin < before.end);
    // Without anything else there is no table, and none for this.
    if covered || entries.is_empty() {
        return;
    }
    let next = entries.get(after).map_or(u64::MAX, |next| next.begin);
    let end = begin.saturating_add(ENTRY_BYTES).min(next).min(part.end());
    let stop = Row { cfa_kind: CfaKind::Stop as u8, ..Row::default() };
    entries.insert(after, Entry { begin, end, kind: Kind::Rule(stop) });
}

#[cfg(test)]
mod tests;
