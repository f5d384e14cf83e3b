//! The runtime's description of the program, where it says at what address the text begins and
//! where the trees of inlined calls are: `runtime.firstmoduledata`, found without its symbol.
//!
//! Its first field points to the function table's header. In a program that can be loaded anywhere
//! that pointer is a relocation, and the file holds zero or the same number there.
//!
//! Format: `runtime.moduledata`; positions of fields as of Go 1.18 to 1.27.
//!
//! Must not: take a description that contradicts the function table.

use super::super::bytes::{BinaryError, Bytes, u64_at};
use super::super::elf::{Elf, Section};
use super::header::Version;

/// Bytes of data searched. The description lies in the writable part, of a few megabytes.
const MAX_SCANNED: u64 = 128 << 20;
/// Bytes of relocations read: 2.8 million of them.
const MAX_RELOCATIONS: u64 = 64 << 20;
/// Bytes read at once; a multiple of the size of a relocation and of a pointer.
const CHUNK: u64 = 24 << 15;
/// Pointers to the header that are looked at: one is right, others are chance.
const MAX_CANDIDATES: usize = 16;

const RELA_BYTES: usize = 24;
const SHT_RELA: u32 = 4;
const R_X86_64_RELATIVE: u64 = 8;
const R_AARCH64_RELATIVE: u64 = 1027;

// Fields, counted in words of eight bytes.
const MIN_PC: usize = 20;
const MAX_PC: usize = 21;
const TEXT: usize = 22;
/// Where the types begin. Behind that is where they end and, since Go 1.27, a length before it.
const TYPES: usize = 37;
const BEHIND_TYPES: usize = 38;
/// Words up to the last one that is read.
const WORDS: usize = 44;

/// What is taken from the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// What function entries are counted from.
    pub(super) text: u64,
    /// What functions' data is counted from: `go:func.*`.
    pub(super) data: u64,
    /// Whether Go 1.27 or a later one built the program.
    pub(super) is_go127: bool,
}

/// What the description must agree with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) version: Version,
    /// Address of the function table's header.
    pub(super) header: u64,
    /// The first function's entry and the last one's end, counted from the text's start.
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Module {
    /// Finds the description that agrees with a function table.
    pub(super) fn find(
        bytes: Bytes<'_>,
        elf: &Elf,
        expected: Expected,
    ) -> Result<Option<Self>, BinaryError> {
        for at in pointers(bytes, elf, expected.header)? {
            let Some(offset) = elf.offset_of(at) else { continue };
            let Ok(words) = bytes.read(offset, WORDS * 8) else { continue };
            if let Some(module) = Self::of(&words, elf, expected) {
                return Ok(Some(module));
            }
        }
        let relocations: Vec<&Section> =
            elf.sections.iter().filter(|section| section.kind == SHT_RELA).collect();
        let mut candidates = Vec::new();
        each_relocation(bytes, &relocations, |at, addend| {
            if addend == expected.header && candidates.len() < MAX_CANDIDATES {
                candidates.push((at, vec![0; WORDS * 8]));
            }
        })?;
        if candidates.is_empty() {
            return Ok(None);
        }
        each_relocation(bytes, &relocations, |at, addend| {
            for (start, words) in &mut candidates {
                let into = at.checked_sub(*start).and_then(|into| usize::try_from(into).ok());
                let word = into.and_then(|into| words.get_mut(into..)?.first_chunk_mut::<8>());
                if let Some(word) = word {
                    *word = addend.to_le_bytes();
                }
            }
        })?;
        Ok(candidates.iter().find_map(|(_, words)| Self::of(words, elf, expected)))
    }

    /// The checks are those that the runtime makes when it starts.
    fn of(words: &[u8], elf: &Elf, expected: Expected) -> Option<Self> {
        let word = |index: usize| u64_at(words, index * 8);
        // The types' end is no lower than their start, and a length is no address: what is below them is
        // more than they are.
        let is_go127 = expected.version == Version::Go120 && word(BEHIND_TYPES) < word(TYPES);
        let data = match expected.version {
            Version::Go12 | Version::Go116 => return None,
            Version::Go118 => word(38),
            // Three lengths and offsets among the types came before it.
            Version::Go120 if is_go127 => word(43),
            // Two fields for counters of coverage came before it.
            Version::Go120 => word(40),
        };
        let text = word(TEXT);
        let sound = word(0) == expected.header
            && text.checked_add(expected.first) == Some(word(MIN_PC))
            && text.checked_add(expected.last)? >= word(MAX_PC)
            && word(MAX_PC) > word(MIN_PC)
            && is_code(elf, text);
        sound.then_some(Self { text, data, is_go127 })
    }
}

/// Whether an address is in a segment of code.
pub(super) fn is_code(elf: &Elf, address: u64) -> bool {
    let holds = |segment: &super::super::elf::Segment| {
        address.checked_sub(segment.address).is_some_and(|into| into < segment.size)
    };
    elf.segments.iter().any(|segment| segment.executable && holds(segment))
}

/// Addresses of words in the data that hold `value`. The writable segments come last in a file.
fn pointers(bytes: Bytes<'_>, elf: &Elf, value: u64) -> Result<Vec<u64>, BinaryError> {
    let size = bytes.size()?;
    let mut scanned = 0;
    let mut found = Vec::new();
    for segment in elf.segments.iter().rev().filter(|segment| !segment.executable) {
        let end = (segment.offset + segment.size).min(size);
        // A segment may claim to begin anywhere; none that is in the file is too far for this.
        let Some(mut at) = segment.offset.checked_next_multiple_of(8) else { continue };
        while at < end && scanned < MAX_SCANNED {
            let chunk = bytes.read(at, (end - at).min(CHUNK) as usize)?;
            for (index, word) in chunk.chunks_exact(8).enumerate() {
                if u64_at(word, 0) == value && found.len() < MAX_CANDIDATES {
                    found.push(segment.address + (at + index as u64 * 8 - segment.offset));
                }
            }
            at += CHUNK;
            scanned += CHUNK;
        }
    }
    Ok(found)
}

/// Calls `see` with the address and the value of each relocation that only adds the load address.
fn each_relocation(
    bytes: Bytes<'_>,
    sections: &[&Section],
    mut see: impl FnMut(u64, u64),
) -> Result<(), BinaryError> {
    let mut read = 0;
    for section in sections {
        let mut at = section.offset;
        let end = section.offset + section.size;
        while at < end && read < MAX_RELOCATIONS {
            let chunk = bytes.read(at, (end - at).min(CHUNK) as usize)?;
            for entry in chunk.chunks_exact(RELA_BYTES) {
                if matches!(u64_at(entry, 8), R_X86_64_RELATIVE | R_AARCH64_RELATIVE) {
                    see(u64_at(entry, 0), u64_at(entry, 16));
                }
            }
            at += CHUNK;
            read += CHUNK;
        }
    }
    Ok(())
}
