//! Writes an excerpt as an ELF file: file header, segments' headers, sections, their names, their
//! headers. It lives in memory, and goes when its descriptor is closed.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::read::{
    EHDR, ExcerptError, Headers, PHDR, Part, SHDR, SHF_COMPRESSED, SHT_STRTAB, Section,
};
use crate::binary::Bytes;

/// Writes the excerpt: file header, segments' headers, sections, their names, their headers.
pub(super) fn write(
    bytes: Bytes<'_>,
    headers_read: &Headers,
    sections: &[Section],
) -> Result<File, ExcerptError> {
    let file = memory_file().map_err(ExcerptError::Write)?;
    let put = |at: u64, data: &[u8]| file.write_all_at(data, at).map_err(ExcerptError::Write);
    let mut at = EHDR as u64;
    for segment in &headers_read.segments {
        put(at, segment)?;
        at += PHDR as u64;
    }
    // The first header of an ELF file's sections is empty, and so is the first name.
    let mut headers = vec![0; SHDR];
    let mut names = vec![0];
    for section in sections {
        at = at.next_multiple_of(16);
        section_header(&mut headers, &names, section, at);
        names.extend(section.name.as_bytes());
        names.push(0);
        at = copy(bytes, section, at, put)?;
    }
    let own_name = b".shstrtab\0";
    let strings = Section {
        name: ".shstrtab",
        part: Part::Note,
        kind: SHT_STRTAB,
        flags: 0,
        offset: 0,
        contents: None,
        size: (names.len() + own_name.len()) as u64,
    };
    section_header(&mut headers, &names, &strings, at);
    names.extend(own_name);
    put(at, &names)?;
    at = (at + names.len() as u64).next_multiple_of(16);
    put(at, &headers)?;

    let mut header = headers_read.file.clone();
    let sections = (headers.len() / SHDR) as u16;
    header[32..40].copy_from_slice(&(EHDR as u64).to_le_bytes());
    header[40..48].copy_from_slice(&at.to_le_bytes());
    for (at, value) in [
        (54, PHDR as u16),
        (56, headers_read.segments.len() as u16),
        (58, SHDR as u16),
        (60, sections),
        (62, sections - 1),
    ] {
        header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    put(0, &header)?;
    Ok(file)
}

/// Copies a section to `at`, piece by piece, and returns where it ends.
fn copy(
    bytes: Bytes<'_>,
    section: &Section,
    at: u64,
    put: impl Fn(u64, &[u8]) -> Result<(), ExcerptError>,
) -> Result<u64, ExcerptError> {
    const PIECE: u64 = 1 << 20;
    if let Some(contents) = &section.contents {
        put(at, contents)?;
        return Ok(at + section.size);
    }
    let mut done = 0;
    while done < section.size {
        let piece = PIECE.min(section.size - done);
        put(at + done, &bytes.read(section.offset + done, piece as usize)?)?;
        done += piece;
    }
    Ok(at + section.size)
}

/// Appends the header of a section that was put at `at`. Its name comes next in `names`.
fn section_header(headers: &mut Vec<u8>, names: &[u8], section: &Section, at: u64) {
    let start = headers.len();
    headers.resize(start + SHDR, 0);
    let header = &mut headers[start..];
    header[0..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&section.kind.to_le_bytes());
    header[8..16].copy_from_slice(&(section.flags & SHF_COMPRESSED).to_le_bytes());
    header[24..32].copy_from_slice(&at.to_le_bytes());
    header[32..40].copy_from_slice(&section.size.to_le_bytes());
}

/// A new, empty file in memory.
fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated string, and the flags are valid; no memory is passed.
    let fd = unsafe { libc::memfd_create(c"holmes-elf".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}
