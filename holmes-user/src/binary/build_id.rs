//! The build-id of an ELF file, read with positioned reads.
//!
//! Must not map the file: its owner may truncate it, and a mapped page that is gone kills the
//! reader. Must not trust it: every size is bounded.
//!
//! Format: `Elf64_Ehdr`, `Elf64_Phdr` and notes as in elf(5); the id is the note of type
//! `NT_GNU_BUILD_ID` by owner `GNU`.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Program headers looked at. Linkers write about a dozen.
const MAX_SEGMENTS: usize = 64;

/// Bytes read of one note segment. A build-id's takes 36.
const MAX_NOTE_BYTES: usize = 4096;

/// Bytes of an id. SHA-1 has 20; longer ones are user-chosen, and become file names elsewhere.
pub(super) const MAX_ID_BYTES: usize = 64;

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const EHDR_BYTES: usize = 64;
const PHDR_BYTES: usize = 56;

/// The build-id in lower-case hexadecimal; `None` if the file is no 64-bit little-endian ELF or
/// has none.
pub fn build_id(file: &File) -> Option<String> {
    find(|buffer, offset| file.read_exact_at(buffer, offset).ok())
}

/// As [`build_id`], over any source of bytes: `read(buffer, offset)` fills the buffer or fails.
pub(super) fn find(read: impl Fn(&mut [u8], u64) -> Option<()>) -> Option<String> {
    let mut header = [0; EHDR_BYTES];
    read(&mut header, 0)?;
    // Magic, 64 bits, little endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = u64_at(&header, 32)?;
    let entry_bytes = u64::from(u16_at(&header, 54)?);
    let entries = usize::from(u16_at(&header, 56)?).min(MAX_SEGMENTS);
    if entry_bytes < PHDR_BYTES as u64 {
        return None;
    }
    (0..entries).find_map(|entry| {
        let mut segment = [0; PHDR_BYTES];
        read(&mut segment, table.checked_add(entry as u64 * entry_bytes)?)?;
        if u32_at(&segment, 0)? != PT_NOTE {
            return None;
        }
        let offset = u64_at(&segment, 8)?;
        let bytes = usize::try_from(u64_at(&segment, 32)?).ok()?.min(MAX_NOTE_BYTES);
        let mut notes = vec![0; bytes];
        read(&mut notes, offset)?;
        gnu_build_id(&notes)
    })
}

/// Walks the notes of one segment.
fn gnu_build_id(mut notes: &[u8]) -> Option<String> {
    loop {
        let name_bytes = u32_at(notes, 0)? as usize;
        let id_bytes = u32_at(notes, 4)? as usize;
        let kind = u32_at(notes, 8)?;
        let rest = notes.get(12..)?;
        let name = rest.get(..name_bytes)?;
        let rest = rest.get(name_bytes.checked_next_multiple_of(4)?..)?;
        let id = rest.get(..id_bytes)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && (1..=MAX_ID_BYTES).contains(&id_bytes) {
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = rest.get(id_bytes.checked_next_multiple_of(4)?..)?;
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> Option<String> {
        find(|buffer, offset| {
            let from = usize::try_from(offset).ok()?;
            buffer.copy_from_slice(bytes.get(from..from.checked_add(buffer.len())?)?);
            Some(())
        })
    }

    /// An ELF file with one note segment.
    fn elf(notes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; EHDR_BYTES + PHDR_BYTES];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32..40].copy_from_slice(&(EHDR_BYTES as u64).to_le_bytes());
        bytes[54..56].copy_from_slice(&(PHDR_BYTES as u16).to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        let segment = EHDR_BYTES;
        bytes[segment..segment + 4].copy_from_slice(&PT_NOTE.to_le_bytes());
        let offset = (EHDR_BYTES + PHDR_BYTES) as u64;
        bytes[segment + 8..segment + 16].copy_from_slice(&offset.to_le_bytes());
        bytes[segment + 32..segment + 40].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        bytes.extend(notes);
        bytes
    }

    fn note(kind: u32, name: &[u8], id: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((id.len() as u32).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        for part in [name, id] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_id_among_other_notes() {
        let mut notes = note(1, b"GNU\0", &[0; 16]);
        notes.extend(note(3, b"Go\0\0", &[1; 3]));
        notes.extend(note(3, b"GNU\0", &[0xab, 0x01]));
        assert_eq!(of(&elf(&notes)).as_deref(), Some("ab01"));
    }

    #[test]
    fn no_elf_no_id() {
        assert_eq!(of(b""), None);
        assert_eq!(of(b"#!/bin/sh\n"), None);
        assert_eq!(of(&elf(&[])), None);
        assert_eq!(of(&elf(&note(3, b"GNU\0", &[0; 65]))), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(notes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Either answer is right; not panicking or looping is the point.
            let _ = of(&elf(&notes));
            let _ = of(&notes);
        }
    }
}
