//! Where Go's function table is in a file, and where its parts are.
//!
//! Format: `runtime.pcHeader` and `debug/gosym`. The magic number tells which versions of Go made
//! it. Offsets here are offsets in the file.
//!
//! Must not: trust a number of the file before it is checked against the table's bounds.

use super::super::bytes::{BinaryError, Bytes, u32_at};
use super::super::elf::Elf;
use super::pages::Pages;

/// Functions of a program; the largest known have a few hundred thousand.
const MAX_FUNCTIONS: u64 = 1 << 22;
/// Bytes of read-only data that are searched for the table where no section names it.
const MAX_SCANNED: u64 = 256 << 20;
/// Bytes searched at once.
const SCAN_CHUNK: u64 = 1 << 20;
/// The table's alignment; linkers align it to 8 or more.
const ALIGNMENT: u64 = 8;
/// `sizeof(runtime.pcHeader)`.
const HEADER_BYTES: u64 = 8 + 8 * 8;

/// The sections that hold the table: as Go's linker names it, and as it does for programs that can
/// be loaded anywhere.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// A program with one of these is Go's, whatever became of the table's own section: other linkers
/// put it into one with other data.
const GO_SECTIONS: [&str; 2] = [".go.buildinfo", ".note.go.buildid"];

/// The layouts of the table, by the first version of Go that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Go 1.2 to 1.15: one array, all offsets from its start.
    Go12,
    /// Go 1.16 and 1.17: separate tables of names, files and values.
    Go116,
    /// Go 1.18 and 1.19: functions by their offset from the text's start.
    Go118,
    /// Go 1.20 and later.
    Go120,
}

/// The table's header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: Version,
    /// Bytes of the smallest instruction: program counters are stored in this unit.
    pub(super) quantum: u64,
    pub(super) functions: u64,
    /// The text's first address, if the header has it: Go 1.18 to 1.25 write it, and programs that
    /// can be loaded anywhere have it relocated when they start.
    pub(super) text: Option<u64>,
    pub(super) start: u64,
    /// Behind the last byte.
    pub(super) end: u64,
    /// Function names.
    pub(super) names: u64,
    /// File numbers of compilation units; since Go 1.16.
    pub(super) units: u64,
    /// File names; before Go 1.16 offsets of them.
    pub(super) files: u64,
    /// Tables of values by program counter.
    pub(super) values: u64,
    /// The sorted array of functions; before Go 1.16 its records' offsets do not begin here.
    pub(super) sorted: u64,
    /// What offsets of function records begin at.
    pub(super) records: u64,
}

impl Header {
    /// Finds and reads the header; `None` if the file is no Go program's.
    ///
    /// # Errors
    /// The file cannot be read, or has a section of that name that is no such table.
    pub(super) fn find(
        bytes: Bytes<'_>,
        elf: &Elf,
        pages: &mut Pages<'_>,
    ) -> Result<Option<Self>, BinaryError> {
        if let Some(section) = SECTIONS.iter().find_map(|name| elf.section(name)) {
            return Self::read(pages, section.offset, section.offset + section.size).map(Some);
        }
        let is_go = GO_SECTIONS.iter().any(|name| elf.section(name).is_some());
        if !is_go && !elf.sections.is_empty() {
            return Ok(None);
        }
        scan(bytes, elf, pages)
    }

    fn read(pages: &mut Pages<'_>, start: u64, end: u64) -> Result<Self, BinaryError> {
        const WRONG: BinaryError =
            BinaryError::Malformed("no Go function table is where it should be");
        let (version, quantum) = magic(&pages.u64(start)?.to_le_bytes()).ok_or(WRONG)?;
        let mut word = |index: u64| pages.u64(start + 8 + 8 * index);
        let functions = word(0)?;
        if functions == 0 || functions > MAX_FUNCTIONS {
            return Err(WRONG);
        }
        let mut header = Self {
            version,
            quantum,
            functions,
            text: None,
            start,
            end,
            names: start,
            units: start,
            files: start,
            values: start,
            sorted: start + 16,
            records: start,
        };
        let first = match version {
            Version::Go12 => {
                let behind = header.sorted + functions * 16 + 8;
                header.files = start + u64::from(pages.u32(behind)?);
                return header.checked().ok_or(WRONG);
            }
            Version::Go116 => 2,
            Version::Go118 | Version::Go120 => {
                header.text = Some(word(2)?).filter(|&text| text != 0);
                3
            }
        };
        let mut part = |index: u64| {
            let offset = word(first + index)?;
            start.checked_add(offset).filter(|&at| at < end).ok_or(WRONG)
        };
        header.names = part(0)?;
        header.units = part(1)?;
        header.files = part(2)?;
        header.values = part(3)?;
        header.sorted = part(4)?;
        header.records = header.sorted;
        header.checked().ok_or(WRONG)
    }

    /// The header, if the array of functions lies inside the table.
    fn checked(self) -> Option<Self> {
        let sorted = self.functions * self.sorted_bytes() + self.sorted_bytes() / 2;
        (self.sorted.checked_add(sorted)? <= self.end && self.files < self.end).then_some(self)
    }

    /// Bytes of an entry of the array of functions: an address and an offset.
    pub(super) const fn sorted_bytes(&self) -> u64 {
        match self.version {
            Version::Go12 | Version::Go116 => 16,
            Version::Go118 | Version::Go120 => 8,
        }
    }
}

/// The version and the quantum, if these are a table's first bytes.
fn magic(bytes: &[u8]) -> Option<(Version, u64)> {
    let version = match u32_at(bytes, 0) {
        0xffff_fffb => Version::Go12,
        0xffff_fffa => Version::Go116,
        0xffff_fff0 => Version::Go118,
        0xffff_fff1 => Version::Go120,
        _ => return None,
    };
    match bytes.get(4..8)? {
        // Two zeros, the quantum, and the size of a pointer.
        &[0, 0, quantum @ (1 | 2 | 4), 8] => Some((version, quantum.into())),
        _ => None,
    }
}

/// Searches the data that is not executable for the first sound header.
fn scan(bytes: Bytes<'_>, elf: &Elf, pages: &mut Pages<'_>) -> Result<Option<Header>, BinaryError> {
    let size = bytes.size()?;
    let mut scanned = 0;
    for segment in elf.segments.iter().filter(|segment| !segment.executable) {
        let end = (segment.offset + segment.size).min(size);
        // A segment may claim to begin anywhere; none that is in the file is too far for this.
        let Some(mut at) = segment.offset.checked_next_multiple_of(ALIGNMENT) else { continue };
        while at < end && scanned < MAX_SCANNED {
            let chunk = bytes.read(at, (end - at).min(SCAN_CHUNK) as usize)?;
            for (index, word) in chunk.chunks_exact(ALIGNMENT as usize).enumerate() {
                let found = at + index as u64 * ALIGNMENT;
                if magic(word).is_some()
                    && end - found > HEADER_BYTES
                    && let Ok(header) = Header::read(pages, found, end)
                {
                    return Ok(Some(header));
                }
            }
            at += SCAN_CHUNK;
            scanned += SCAN_CHUNK;
        }
    }
    Ok(None)
}
