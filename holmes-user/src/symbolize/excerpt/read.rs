//! What is taken of an ELF file into its excerpt: the headers of its segments, and the sections that
//! hold names.
//!
//! Must not: read what is in a section.

use std::io;

use thiserror::Error;

use crate::binary::{BinaryError, Elf};

/// Small sections (links, notes), in bytes.
pub(super) const MAX_SMALL_BYTES: u64 = 1 << 20;

pub(super) const EHDR: usize = 64;
pub(super) const PHDR: usize = 56;
pub(super) const SHDR: usize = 64;
/// `sizeof(Elf64_Sym)`.
const SYMBOL: u64 = 24;
pub(super) const SHT_STRTAB: u32 = 3;
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
    /// It cannot be read, or is no ELF file.
    #[error("not a file with names")]
    Read(#[from] BinaryError),
    /// No memory file could be made or filled.
    #[error("cannot make a memory file for an excerpt")]
    Write(#[source] io::Error),
}

/// The headers of an ELF file, as far as they concern names.
#[derive(Debug)]
pub(super) struct Headers {
    /// The file header, as it is.
    pub(super) file: Vec<u8>,
    /// The program headers of loadable segments, as they are.
    pub(super) segments: Vec<Vec<u8>>,
    /// The sections that naming can use, the first of each name, inside the file.
    pub(super) sections: Vec<Section>,
}

impl Headers {
    /// Takes them of checked ones.
    pub(super) fn of(elf: &Elf) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        for section in &elf.sections {
            let Some(&(name, part)) = KEPT.iter().find(|(kept, _)| *kept == section.name) else {
                continue;
            };
            let mut size = section.size;
            if matches!(name, ".symtab" | ".dynsym") {
                size -= size % SYMBOL;
            }
            if size > 0 && sections.iter().all(|section| section.name != name) {
                let crate::binary::Section { kind, flags, offset, .. } = *section;
                sections.push(Section { name, part, kind, flags, offset, size, contents: None });
            }
        }
        let segments = elf.segments.iter().map(|segment| segment.header.clone()).collect();
        Self { file: elf.header.clone(), segments, sections }
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
