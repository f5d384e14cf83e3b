//! What is read of an ELF file before anything is copied: the loadable segments' headers, and where
//! the sections are that hold names. Every number of the file is checked here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

/// Small sections (links, notes, section names), in bytes.
pub(super) const MAX_SMALL_BYTES: u64 = 1 << 20;
/// Loadable segments looked at; linkers make less than ten.
const MAX_SEGMENTS: usize = 64;

pub(super) const EHDR: usize = 64;
pub(super) const PHDR: usize = 56;
pub(super) const SHDR: usize = 64;
/// `sizeof(Elf64_Sym)`.
pub(super) const SYMBOL: u64 = 24;
pub(super) const PT_LOAD: u32 = 1;
pub(super) const SHT_STRTAB: u32 = 3;
pub(super) const SHT_NOBITS: u32 = 8;
pub(super) const SHF_COMPRESSED: u64 = 1 << 11;

/// What a section is to naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The full symbol table and its strings.
    Symbols,
    /// The dynamic symbol table and its strings.
    Dynamic,
    /// Symbols packed with xz (`.gnu_debugdata`, as Fedora has it).
    Packed,
    /// DWARF.
    Debug,
    /// Name of a separate debug file.
    Link,
    /// The build id.
    Note,
}

/// The sections that are copied. Left out of DWARF: what naming does not read (locations of
/// variables, macros), and `.debug_sup`/`.gnu_debugaltlink`, paths that the target chose.
const KEPT: [(&str, Part); 18] = [
    (".symtab", Part::Symbols),
    (".strtab", Part::Symbols),
    (".dynsym", Part::Dynamic),
    (".dynstr", Part::Dynamic),
    (".gnu_debugdata", Part::Packed),
    (".debug_info", Part::Debug),
    (".debug_abbrev", Part::Debug),
    (".debug_line", Part::Debug),
    (".debug_line_str", Part::Debug),
    (".debug_str", Part::Debug),
    (".debug_str_offsets", Part::Debug),
    (".debug_addr", Part::Debug),
    (".debug_aranges", Part::Debug),
    (".debug_ranges", Part::Debug),
    (".debug_rnglists", Part::Debug),
    (".debug_types", Part::Debug),
    (".gnu_debuglink", Part::Link),
    (".note.gnu.build-id", Part::Note),
];

/// Why a file has no excerpt.
#[derive(Debug, Error)]
pub(in crate::symbolize) enum ExcerptError {
    /// Reading failed: its file system is gone, or the disk is bad.
    #[error("cannot read the ELF file")]
    Read(#[source] io::Error),
    /// The bytes are no ELF file of this machine's kind, or one that was cut short.
    #[error("not a 64-bit little-endian ELF file: {0}")]
    NotElf(&'static str),
    /// No memory file could be made or filled.
    #[error("cannot make a memory file for an excerpt")]
    Write(#[source] io::Error),
}

/// Bytes to take an excerpt of.
#[derive(Clone, Copy, Debug)]
pub(in crate::symbolize) enum Bytes<'a> {
    /// An open file.
    File(&'a File),
    /// Memory.
    Memory(&'a [u8]),
}

impl Bytes<'_> {
    /// Reads exactly `len` bytes. The caller bounds `len`.
    pub(super) fn read(self, offset: u64, len: usize) -> Result<Vec<u8>, ExcerptError> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => ExcerptError::NotElf("it ends too early"),
                    _ => ExcerptError::Read(error),
                })?;
                Ok(bytes)
            }
            Self::Memory(memory) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(len);
                let bytes = memory.get(start..end);
                Ok(bytes.ok_or(ExcerptError::NotElf("it ends too early"))?.to_vec())
            }
        }
    }

    fn len(self) -> Result<u64, ExcerptError> {
        match self {
            Self::File(file) => {
                let metadata = file.metadata().map_err(ExcerptError::Read)?;
                if !metadata.is_file() {
                    return Err(ExcerptError::NotElf("it is no regular file"));
                }
                Ok(metadata.len())
            }
            Self::Memory(memory) => Ok(memory.len() as u64),
        }
    }
}

/// The headers of an ELF file.
#[derive(Debug)]
pub(super) struct Headers {
    /// The file header, as it is.
    pub(super) file: Vec<u8>,
    /// The program headers of loadable segments, as they are.
    pub(super) segments: Vec<Vec<u8>>,
    /// The sections that naming can use, inside the file.
    pub(super) sections: Vec<Section>,
}

impl Headers {
    /// Reads and checks them.
    pub(super) fn read(bytes: Bytes<'_>) -> Result<Self, ExcerptError> {
        let size = bytes.len()?;
        let file = bytes.read(0, EHDR)?;
        if !file.starts_with(b"\x7fELF") {
            return Err(ExcerptError::NotElf("its first bytes are not ELF's"));
        }
        if file[4] != 2 || file[5] != 1 {
            return Err(ExcerptError::NotElf("another word size or byte order"));
        }
        let segments = load_segments(bytes, &file)?;
        let sections = sections(bytes, &file, size)?;
        Ok(Self { file, segments, sections })
    }
}

/// A section of the file, inside its bounds.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) part: Part,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Read already, because they were checked: the file can change in between.
    pub(super) contents: Option<Vec<u8>>,
}

impl Section {
    /// The same with these contents.
    pub(super) fn with_contents(&self, contents: Vec<u8>) -> Self {
        Self { contents: Some(contents), ..self.clone() }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |part| u16::from_le_bytes([part[0], part[1]]))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The program headers of loadable segments whose numbers do not overflow, as they are.
fn load_segments(bytes: Bytes<'_>, ehdr: &[u8]) -> Result<Vec<Vec<u8>>, ExcerptError> {
    let (offset, entry, count) = (u64_at(ehdr, 32), u16_at(ehdr, 54), u16_at(ehdr, 56));
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(entry) != PHDR {
        return Err(ExcerptError::NotElf("program headers of a wrong size"));
    }
    let table = bytes.read(offset, usize::from(count) * PHDR)?;
    let sound = |header: &&[u8]| {
        let (offset, address, size) = (u64_at(header, 8), u64_at(header, 16), u64_at(header, 32));
        u32_at(header, 0) == PT_LOAD
            && offset.checked_add(size).is_some()
            && address.checked_add(size).is_some()
    };
    Ok(table.chunks(PHDR).filter(sound).take(MAX_SEGMENTS).map(<[u8]>::to_vec).collect())
}

/// The sections that naming can use, the first of each name, inside the file.
fn sections(bytes: Bytes<'_>, ehdr: &[u8], size: u64) -> Result<Vec<Section>, ExcerptError> {
    let (offset, entry, count) = (u64_at(ehdr, 40), u16_at(ehdr, 58), u16_at(ehdr, 60));
    if count == 0 || offset == 0 {
        return Ok(Vec::new());
    }
    if usize::from(entry) != SHDR {
        return Err(ExcerptError::NotElf("section headers of a wrong size"));
    }
    let table = bytes.read(offset, usize::from(count) * SHDR)?;
    let header = |index: usize| table.get(index * SHDR..(index + 1) * SHDR);
    let inside = |header: &[u8]| {
        let (offset, len) = (u64_at(header, 24), u64_at(header, 32));
        (u32_at(header, 4) != SHT_NOBITS && offset.checked_add(len)? <= size)
            .then_some((offset, len))
    };
    let names = header(u16_at(ehdr, 62).into())
        .and_then(inside)
        .filter(|&(_, len)| len <= MAX_SMALL_BYTES)
        .ok_or(ExcerptError::NotElf("no section names"))?;
    let names = bytes.read(names.0, names.1 as usize)?;
    let mut found: Vec<Section> = Vec::new();
    for header in table.chunks(SHDR) {
        let name = names.get(u32_at(header, 0) as usize..).unwrap_or_default();
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let Some(&(name, part)) = KEPT.iter().find(|(kept, _)| kept.as_bytes() == name) else {
            continue;
        };
        let Some((offset, mut size)) = inside(header) else {
            continue;
        };
        if matches!(name, ".symtab" | ".dynsym") {
            size -= size % SYMBOL;
        }
        if size > 0 && found.iter().all(|section| section.name != name) {
            let (kind, flags) = (u32_at(header, 4), u64_at(header, 8));
            found.push(Section { name, part, kind, flags, offset, size, contents: None });
        }
    }
    Ok(found)
}
