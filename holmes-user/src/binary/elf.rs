//! The headers of an ELF file: loadable segments and sections, each inside the file's bounds.
//!
//! Format: System V gABI, chapters 4 and 5; numbers from `elf.h`.
//!
//! Must not: read what is in a section, or trust a number of the file.

use super::bytes::{BinaryError, Bytes, u16_at, u32_at, u64_at};

/// Bytes of section names. Programs built with a section for each function strip them when they are
/// linked; large ones have a few kilobytes.
const MAX_NAMES_BYTES: u64 = 1 << 20;
/// Bytes kept of one section's name.
const MAX_NAME_BYTES: usize = 64;
/// Sections looked at. Linked files have about 40.
pub(super) const MAX_SECTIONS: usize = 1024;
/// Loadable segments looked at; linkers make less than ten.
pub(super) const MAX_SEGMENTS: usize = 64;

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const SHT_NOBITS: u32 = 8;

/// The headers of a 64-bit little-endian ELF file.
#[derive(Clone, Debug)]
pub struct Elf {
    /// The file header, as it is: 64 bytes.
    pub header: Vec<u8>,
    /// The loadable segments, in the file's order.
    pub segments: Vec<Segment>,
    /// The sections that have bytes in the file, in its order.
    pub sections: Vec<Section>,
}

/// A loadable segment whose numbers do not overflow.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The program header, as it is: 56 bytes.
    pub header: Vec<u8>,
    /// Whether its memory is executable.
    pub executable: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Address it was linked for.
    pub address: u64,
    /// Bytes in the file; they may reach behind its end.
    pub size: u64,
}

/// A section inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, hostile.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// Address it was linked for; 0 if it is not loaded.
    pub address: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
}

impl Elf {
    /// Reads and checks the headers.
    ///
    /// # Errors
    /// The bytes cannot be read, or are no such file.
    pub fn read(bytes: Bytes<'_>) -> Result<Self, BinaryError> {
        let size = bytes.size()?;
        let header = bytes.read(0, EHDR)?;
        if !header.starts_with(b"\x7fELF") {
            return Err(BinaryError::Malformed("its first bytes are not ELF's"));
        }
        if header[4] != 2 || header[5] != 1 {
            return Err(BinaryError::Malformed("another word size or byte order"));
        }
        let segments = segments(bytes, &header)?;
        let sections = sections(bytes, &header, size)?;
        Ok(Self { header, segments, sections })
    }

    /// The first section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The address that an offset in the file was linked for.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let holds = |segment: &&Segment| {
            offset.checked_sub(segment.offset).is_some_and(|into| into < segment.size)
        };
        let segment = self.segments.iter().find(holds)?;
        Some(segment.address + (offset - segment.offset))
    }

    /// The offset in the file of an address it was linked for.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let holds = |segment: &&Segment| {
            address.checked_sub(segment.address).is_some_and(|into| into < segment.size)
        };
        let segment = self.segments.iter().find(holds)?;
        Some(segment.offset + (address - segment.address))
    }
}

/// The loadable segments whose numbers do not overflow.
fn segments(bytes: Bytes<'_>, ehdr: &[u8]) -> Result<Vec<Segment>, BinaryError> {
    let (offset, entry, count) = (u64_at(ehdr, 32), u16_at(ehdr, 54), u16_at(ehdr, 56));
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(entry) != PHDR {
        return Err(BinaryError::Malformed("program headers of a wrong size"));
    }
    let table = bytes.read(offset, usize::from(count) * PHDR)?;
    let segment = |header: &[u8]| {
        let (offset, address, size) = (u64_at(header, 8), u64_at(header, 16), u64_at(header, 32));
        let sound = u32_at(header, 0) == PT_LOAD
            && offset.checked_add(size).is_some()
            && address.checked_add(size).is_some();
        let executable = u32_at(header, 4) & PF_X != 0;
        sound.then(|| Segment { header: header.to_vec(), executable, offset, address, size })
    };
    Ok(table.chunks(PHDR).filter_map(segment).take(MAX_SEGMENTS).collect())
}

/// The sections that have bytes, inside the file.
fn sections(bytes: Bytes<'_>, ehdr: &[u8], size: u64) -> Result<Vec<Section>, BinaryError> {
    let (offset, entry, count) = (u64_at(ehdr, 40), u16_at(ehdr, 58), u16_at(ehdr, 60));
    if count == 0 || offset == 0 {
        return Ok(Vec::new());
    }
    if usize::from(entry) != SHDR {
        return Err(BinaryError::Malformed("section headers of a wrong size"));
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
        .filter(|&(_, len)| len <= MAX_NAMES_BYTES)
        .ok_or(BinaryError::Malformed("no section names"))?;
    let names = bytes.read(names.0, names.1 as usize)?;
    let section = |header: &[u8]| {
        let (offset, size) = inside(header)?;
        let name = names.get(u32_at(header, 0) as usize..).unwrap_or_default();
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(Section {
            name: String::from_utf8_lossy(&name[..name.len().min(MAX_NAME_BYTES)]).into_owned(),
            kind: u32_at(header, 4),
            flags: u64_at(header, 8),
            address: u64_at(header, 16),
            offset,
            size,
        })
    };
    Ok(table.chunks(SHDR).filter_map(section).take(MAX_SECTIONS).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_headers_of_this_program() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let elf = Elf::read(Bytes::File(&file)).unwrap();
        let text = elf.section(".text").unwrap();
        assert!(text.size > 0);
        assert_eq!(elf.address_of(text.offset), Some(text.address));
        assert_eq!(elf.offset_of(text.address), Some(text.offset));
        assert!(elf.segments.iter().any(|segment| segment.executable));
        assert_eq!(elf.address_of(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn broken_headers_do_no_harm(
            changes in proptest::collection::vec((0usize..4096, any::<u8>()), 1..40),
            len in 0usize..4096,
        ) {
            let mut bytes = std::fs::read("/proc/self/exe").unwrap();
            bytes.truncate(64 << 10);
            for (at, value) in changes {
                bytes[at] = value;
            }
            // Either answer is right; not panicking is the point.
            let _ = Elf::read(Bytes::Memory(&bytes));
            bytes.truncate(len);
            let _ = Elf::read(Bytes::Memory(&bytes));
        }
    }
}
