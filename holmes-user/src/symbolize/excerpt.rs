//! The part of an ELF file that holds names, copied within bounds into memory that nobody else can
//! change. The copy is an ELF file again: the loadable segments' headers (which translate file
//! offsets to addresses), and the sections of `read::KEPT` under their well-known names.
//!
//! Format: System V gABI, chapters 4 and 5; numbers from `elf.h`.
//!
//! Must not: interpret symbols or debug information, or trust a number of the file.

mod read;
mod write;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

pub(super) use read::ExcerptError;
use read::{Headers, MAX_SMALL_BYTES, Part, SHF_COMPRESSED, Section};

use super::compressed;
use super::debug_file::DebugLink;
use super::stats::DebugSkipped;
use crate::binary::{Bytes, Elf};

/// Symbol and string tables of one file, in bytes, together. An unstripped node or rustc has 40 MB
/// of them; where the full table is larger, the dynamic one stands in.
const MAX_SYMBOL_BYTES: u64 = 64 << 20;
/// Debug information of one file that is copied, in bytes, unpacked. Parsing takes about as much
/// again. Larger ones are used by the naming process only, which maps the file.
const MAX_DEBUG_BYTES: u64 = 64 << 20;
/// `.debug_line` of one file, in bytes: each of them can become a row of 40 bytes.
const MAX_LINE_BYTES: u64 = 8 << 20;
/// The section without which there is no debug information.
const INFO: &str = ".debug_info";

/// A private copy of the part of an ELF file that holds names.
#[derive(Debug)]
pub(super) struct Excerpt {
    file: File,
    elf: Elf,
    /// Whether it has any table of symbols.
    pub(super) has_symbols: bool,
    /// Whether it has debug information.
    pub(super) has_debug: bool,
    /// Whether the file itself has debug information, copied or not.
    pub(super) file_has_debug: bool,
    /// Why debug information that should have been copied was not.
    pub(super) debug_skipped: Option<DebugSkipped>,
    /// Where the file says that its debug information is.
    pub(super) link: Option<DebugLink>,
}

/// Whether debug information is copied, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyDebug {
    /// It is read where it is, or nowhere.
    No,
    /// Within the bounds.
    Yes,
}

impl Excerpt {
    /// Copies what holds names.
    pub(super) fn of(bytes: Bytes<'_>, debug: CopyDebug) -> Result<Self, ExcerptError> {
        let elf = Elf::read(bytes)?;
        let headers = Headers::of(&elf);
        let mut chosen = Choice::default();
        chosen.choose(bytes, &headers.sections, debug)?;
        let file = write::write(bytes, &headers, &chosen.sections)?;
        let has = |part| chosen.sections.iter().any(|section| section.part == part);
        Ok(Self {
            file,
            has_symbols: has(Part::Symbols) || has(Part::Dynamic) || has(Part::Packed),
            has_debug: has(Part::Debug),
            file_has_debug: headers.sections.iter().any(|section| section.name == INFO),
            debug_skipped: chosen.debug_skipped,
            link: chosen.link,
            elf,
        })
    }

    /// The copy, as a file.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// The address that an offset in the file was linked for.
    pub(super) fn address_of(&self, offset: u64) -> Option<u64> {
        self.elf.address_of(offset)
    }

    /// A path that opens the copy, as long as this lives.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// The sections that will be copied.
#[derive(Default)]
struct Choice {
    sections: Vec<Section>,
    link: Option<DebugLink>,
    debug_skipped: Option<DebugSkipped>,
}

impl Choice {
    fn choose(
        &mut self,
        bytes: Bytes<'_>,
        sections: &[Section],
        debug: CopyDebug,
    ) -> Result<(), ExcerptError> {
        let of = |part| sections.iter().filter(move |section: &&Section| section.part == part);
        let sum = |part| of(part).map(|section| section.size).fold(0, u64::saturating_add);
        let mut room = MAX_SYMBOL_BYTES;
        for part in [Part::Dynamic, Part::Symbols] {
            if sum(part) <= room {
                room -= sum(part);
                self.sections.extend(of(part).cloned());
            }
        }
        for section in of(Part::Packed) {
            // Packed symbols only fill in for the full table, as blazesym reads them.
            if sum(Part::Symbols) > 0 || section.size > room {
                continue;
            }
            let packed = bytes.read(section.offset, section.size as usize)?;
            if compressed::xz_size(&packed, room).is_some() {
                self.sections.push(section.with_contents(packed));
            }
        }
        if debug == CopyDebug::Yes {
            match debug_sections(bytes, of(Part::Debug))? {
                Ok(debug) => self.sections.extend(debug),
                Err(cause) => self.debug_skipped = Some(cause),
            }
        }
        for section in of(Part::Link).filter(|section| section.size <= MAX_SMALL_BYTES) {
            self.link = DebugLink::of(&bytes.read(section.offset, section.size as usize)?);
        }
        self.sections
            .extend(of(Part::Note).filter(|section| section.size <= MAX_SMALL_BYTES).cloned());
        Ok(())
    }
}

/// The DWARF sections, if they are within the bounds, unpacked.
fn debug_sections<'a>(
    bytes: Bytes<'_>,
    sections: impl Iterator<Item = &'a Section>,
) -> Result<Result<Vec<Section>, DebugSkipped>, ExcerptError> {
    let mut room = MAX_DEBUG_BYTES;
    let mut chosen = Vec::new();
    for section in sections {
        let limit = if section.name == ".debug_line" { MAX_LINE_BYTES.min(room) } else { room };
        if section.size > limit {
            return Ok(Err(DebugSkipped::TooLarge));
        }
        let mut size = section.size;
        if section.flags & SHF_COMPRESSED != 0 {
            let packed = bytes.read(section.offset, section.size as usize)?;
            match compressed::section_size(&packed, limit) {
                Some(unpacked) => size = size.max(unpacked),
                None => return Ok(Err(DebugSkipped::Compressed)),
            }
            chosen.push(section.with_contents(packed));
        } else {
            chosen.push(section.clone());
        }
        room = room.saturating_sub(size);
    }
    Ok(Ok(chosen))
}

#[cfg(test)]
pub(super) mod tests;
