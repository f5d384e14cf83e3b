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
use std::path::{Path, PathBuf};

pub(super) use read::ExcerptError;
use read::{Headers, MAX_SMALL_BYTES, Part, SHF_COMPRESSED, Section};

use super::compressed;
use super::stats::DebugSkipped;
use crate::binary::Bytes;

/// Symbol and string tables of one file, in bytes, together. An unstripped node or rustc has 40 MB
/// of them; where the full table is larger, the dynamic one stands in.
const MAX_SYMBOL_BYTES: u64 = 64 << 20;
/// Debug information of one file, in bytes, unpacked. Parsing takes about as much again. Larger
/// files are named by their ELF symbols.
const MAX_DEBUG_BYTES: u64 = 64 << 20;
/// `.debug_line` of one file, in bytes: each of them can become a row of 40 bytes.
const MAX_LINE_BYTES: u64 = 8 << 20;
/// A separate debug file of the system, in bytes: its checksum is computed over all of it.
const MAX_SYSTEM_DEBUG_BYTES: u64 = 256 << 20;

/// Where separate debug files are looked for. Nothing else is, wherever the target's file points.
pub(super) const DEBUG_DIRECTORY: &str = "/usr/lib/debug";

/// A private copy of the part of an ELF file that holds names.
#[derive(Debug)]
pub(super) struct Excerpt {
    file: File,
    /// Whether there is any table of symbols, or debug information.
    pub(super) has_names: bool,
    /// Whether debug information is worth a try.
    pub(super) has_debug: bool,
    /// Why debug information that the file has was left out.
    pub(super) debug_skipped: Option<DebugSkipped>,
}

impl Excerpt {
    /// Copies what holds names. `build_id`, in hexadecimal, finds the system's debug file.
    pub(super) fn of(bytes: Bytes<'_>, build_id: &str) -> Result<Self, ExcerptError> {
        let headers = Headers::read(bytes)?;
        let mut chosen = Choice::default();
        chosen.choose(bytes, &headers.sections, build_id)?;
        let file = write::write(bytes, &headers, &chosen.sections)?;
        let has = |part| chosen.sections.iter().any(|section| section.part == part);
        let has_debug = has(Part::Debug) || has(Part::Link);
        let has_symbols = has(Part::Symbols) || has(Part::Dynamic) || has(Part::Packed);
        Ok(Self {
            file,
            has_names: has_debug || has_symbols,
            has_debug,
            debug_skipped: chosen.debug_skipped,
        })
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
    debug_skipped: Option<DebugSkipped>,
}

impl Choice {
    fn choose(
        &mut self,
        bytes: Bytes<'_>,
        sections: &[Section],
        build_id: &str,
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
        match debug_sections(bytes, of(Part::Debug))? {
            Ok(debug) => self.sections.extend(debug),
            Err(cause) => self.debug_skipped = Some(cause),
        }
        for section in of(Part::Link).filter(|section| section.size <= MAX_SMALL_BYTES) {
            let link = bytes.read(section.offset, section.size as usize)?;
            match system_debug_file(&link, build_id).map(|size| size <= MAX_SYSTEM_DEBUG_BYTES) {
                Some(true) => self.sections.push(section.with_contents(link)),
                Some(false) => self.debug_skipped = Some(DebugSkipped::TooLarge),
                None => {}
            }
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

/// The size of the debug file that the system keeps for a file with this `.gnu_debuglink` and
/// build id. Only a bare file name is followed: a path would be the target's choice of a file to
/// open, and a number would name one of the recorder's own descriptors beside the excerpt.
fn system_debug_file(link: &[u8], build_id: &str) -> Option<u64> {
    let name = link.split(|&byte| byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    let bare = !name.contains('/') && !name.is_empty() && name != "." && name != "..";
    if !bare || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let directory = Path::new(DEBUG_DIRECTORY);
    let hexadecimal = build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_id = (hexadecimal && build_id.len() > 4)
        .then(|| directory.join(format!(".build-id/{}/{}.debug", &build_id[..2], &build_id[2..])));
    let candidates = by_id.into_iter().chain([directory.join(name)]);
    let sizes = candidates.filter_map(|path| path.metadata().ok()).filter(|found| found.is_file());
    sizes.map(|found| found.len()).max()
}

#[cfg(test)]
pub(super) mod tests;
