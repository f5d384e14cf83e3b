//! Excerpts of symbol tables: what is written is read back, and broken ones do no harm.

use std::io::Write;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Symbolizer};
use proptest::prelude::*;

use super::super::object_names::name_here;
use super::read::{EHDR, PHDR, SHDR, SHT_STRTAB};
use super::*;
use crate::binary::{BinaryError, u16_at, u32_at, u64_at};

const PT_LOAD: u32 = 1;
const SYMBOL: u64 = 24;

fn own_binary() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

/// A small ELF file: one loadable segment of 0x1000 bytes at 0x400000, and these sections.
pub(in crate::symbolize) fn small_elf(sections: &[(&str, u32, u64, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; EHDR + PHDR];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[6] = 1;
    bytes[16..18].copy_from_slice(&2u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&62u16.to_le_bytes());
    bytes[20..24].copy_from_slice(&1u32.to_le_bytes());
    let mut load = vec![0; PHDR];
    load[0..4].copy_from_slice(&PT_LOAD.to_le_bytes());
    load[16..24].copy_from_slice(&0x40_0000u64.to_le_bytes());
    load[32..40].copy_from_slice(&0x1000u64.to_le_bytes());
    load[40..48].copy_from_slice(&0x1000u64.to_le_bytes());
    bytes[EHDR..EHDR + PHDR].copy_from_slice(&load);
    let mut names = vec![0];
    let mut headers = vec![0; SHDR];
    for &(name, kind, flags, data) in sections {
        let mut header = vec![0; SHDR];
        header[0..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&flags.to_le_bytes());
        header[24..32].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
        headers.extend(header);
        names.extend(name.as_bytes());
        names.push(0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
    }
    let mut header = vec![0; SHDR];
    header[4..8].copy_from_slice(&SHT_STRTAB.to_le_bytes());
    header[24..32].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(names.len() as u64).to_le_bytes());
    headers.extend(header);
    bytes.extend(names);
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    let count = (headers.len() / SHDR) as u16;
    let at = bytes.len() as u64;
    bytes.extend(headers);
    bytes[32..40].copy_from_slice(&(EHDR as u64).to_le_bytes());
    bytes[40..48].copy_from_slice(&at.to_le_bytes());
    for (at, value) in [(54, PHDR as u16), (56, 1), (58, SHDR as u16), (60, count), (62, count - 1)]
    {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// A symbol table with one function of 0x100 bytes at the segment's beginning.
pub(in crate::symbolize) fn one_symbol() -> Vec<u8> {
    let mut symbols = vec![0; 2 * SYMBOL as usize];
    let symbol = &mut symbols[SYMBOL as usize..];
    symbol[0..4].copy_from_slice(&1u32.to_le_bytes());
    (symbol[4], symbol[6]) = (0x12, 1);
    symbol[8..16].copy_from_slice(&0x40_0000u64.to_le_bytes());
    symbol[16..24].copy_from_slice(&0x100u64.to_le_bytes());
    symbols
}

fn names(elf: &[u8]) -> Vec<String> {
    let excerpt = Excerpt::of(Bytes::Memory(elf), CopyDebug::Yes).unwrap();
    let copy = std::fs::read(excerpt.path()).unwrap();
    let count = usize::from(u16_at(&copy, 60));
    let table = &copy[u64_at(&copy, 40) as usize..][..count * SHDR];
    let header = |index: usize| &table[index * SHDR..(index + 1) * SHDR];
    let strings = header(usize::from(u16_at(&copy, 62)));
    let strings = &copy[u64_at(strings, 24) as usize..][..u64_at(strings, 32) as usize];
    (1..count - 1)
        .map(|index| {
            let name = &strings[u32_at(header(index), 0) as usize..];
            String::from_utf8(name.split(|&byte| byte == 0).next().unwrap().to_vec()).unwrap()
        })
        .collect()
}

#[test]
fn a_copy_names_what_the_file_names() {
    let binary = own_binary();
    let excerpt = Excerpt::of(Bytes::Memory(&binary), CopyDebug::Yes).unwrap();
    assert!(excerpt.has_symbols);
    assert!(std::fs::metadata(excerpt.path()).unwrap().len() < binary.len() as u64);
    let small = small_elf(&[
        (".symtab", 2, 0, &one_symbol()),
        (".strtab", 3, 0, b"\0spin\0"),
        (".comment", 1, 0, b"left out"),
    ]);
    assert_eq!(names(&small), [".symtab", ".strtab"]);
    let excerpt = Excerpt::of(Bytes::Memory(&small), CopyDebug::Yes).unwrap();
    let symbolizer = Symbolizer::new();
    let source = Source::Elf(Elf::new(excerpt.path()));
    let found = symbolizer.symbolize(&source, Input::FileOffset(&[0x10, 0x200])).unwrap();
    assert_eq!(found[0].as_sym().unwrap().name, "spin");
    assert!(found[1].as_sym().is_none());
}

#[test]
fn links_to_other_files_are_not_copied() {
    for section in [".gnu_debuglink", ".debug_sup", ".gnu_debugaltlink"] {
        let elf = small_elf(&[(section, 1, 0, b"a.debug\0\x01\0\0\0")]);
        assert!(names(&elf).is_empty());
        let excerpt = Excerpt::of(Bytes::Memory(&elf), CopyDebug::Yes).unwrap();
        assert_eq!(excerpt.link.is_some(), section == ".gnu_debuglink");
    }
}

#[test]
fn debug_information_is_copied_only_if_it_is_asked_for() {
    let elf = small_elf(&[(".symtab", 2, 0, &one_symbol()), (".debug_info", 1, 0, b"x")]);
    for (copy, has_debug) in [(CopyDebug::Yes, true), (CopyDebug::No, false)] {
        let excerpt = Excerpt::of(Bytes::Memory(&elf), copy).unwrap();
        assert_eq!((excerpt.has_debug, excerpt.file_has_debug), (has_debug, true));
    }
}

#[test]
fn what_lies_about_its_size_is_left_out() {
    let mut bomb = 1u32.to_le_bytes().to_vec();
    bomb.extend([0; 4]);
    bomb.extend(u64::MAX.to_le_bytes());
    bomb.extend([0; 16]);
    let elf = small_elf(&[
        (".debug_info", 1, SHF_COMPRESSED, &bomb),
        (".gnu_debugdata", 1, 0, b"no xz"),
        (".symtab", 2, 0, &one_symbol()),
    ]);
    assert_eq!(names(&elf), [".symtab"]);
    let excerpt = Excerpt::of(Bytes::Memory(&elf), CopyDebug::Yes).unwrap();
    assert_eq!(excerpt.debug_skipped, Some(DebugSkipped::Compressed));
    let large = vec![0; MAX_LINE_BYTES as usize + 1];
    let elf = small_elf(&[(".debug_line", 1, 0, &large), (".debug_info", 1, 0, b"x")]);
    let excerpt = Excerpt::of(Bytes::Memory(&elf), CopyDebug::Yes).unwrap();
    assert_eq!((excerpt.has_debug, excerpt.debug_skipped), (false, Some(DebugSkipped::TooLarge)));
}

#[test]
fn what_is_no_elf_file_is_refused() {
    let refused = |bytes: &[u8]| {
        matches!(
            Excerpt::of(Bytes::Memory(bytes), CopyDebug::Yes),
            Err(ExcerptError::Read(BinaryError::Malformed(_)))
        )
    };
    assert!(refused(b""));
    assert!(refused(&[0; 100]));
    let mut elf = small_elf(&[]);
    elf[4] = 1;
    assert!(refused(&elf));
    let pipe = File::open("/dev/zero").unwrap();
    assert!(matches!(
        Excerpt::of(Bytes::File(&pipe), CopyDebug::Yes),
        Err(ExcerptError::Read(BinaryError::Malformed(_)))
    ));
}

#[test]
fn a_file_cut_short_is_an_error_and_no_crash() {
    let mut file = tempfile::tempfile().unwrap();
    let elf = small_elf(&[(".symtab", 2, 0, &one_symbol()), (".strtab", 3, 0, b"\0spin\0")]);
    file.write_all(&elf).unwrap();
    let excerpt = Excerpt::of(Bytes::File(&file), CopyDebug::Yes).unwrap();
    file.set_len(70).unwrap();
    // The copy taken before is whole.
    let soon = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let deadlines = super::super::elf::Deadlines { debug: soon, all: soon };
    let found = name_here(&excerpt, None, None, &[0x10], deadlines, 1 << 20);
    assert_eq!(&*found.answers[0].as_ref().unwrap().1.lines[0].function, "spin");
    assert!(matches!(
        Excerpt::of(Bytes::File(&file), CopyDebug::Yes),
        Err(ExcerptError::Read(BinaryError::Malformed(_)))
    ));
}

proptest! {
    #[test]
    fn any_change_of_a_byte_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        offsets in prop::collection::vec(any::<u64>(), 1..4),
    ) {
        let mut elf = small_elf(&[
            (".symtab", 2, 0, &one_symbol()),
            (".strtab", 3, 0, b"\0spin\0"),
            (".debug_info", 1, 0, &[7; 64]),
            (".debug_abbrev", 1, 0, &[1; 32]),
            (".note.gnu.build-id", 7, 0, &[4, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 71, 78, 85, 0]),
        ]);
        for (index, byte) in changes {
            let at = index.index(elf.len());
            elf[at] = byte;
        }
        if let Ok(excerpt) = Excerpt::of(Bytes::Memory(&elf), CopyDebug::Yes) {
            let soon = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let deadlines = super::super::elf::Deadlines { debug: soon, all: soon };
            let found = name_here(&excerpt, None, None, &offsets, deadlines, 1 << 20);
            prop_assert_eq!(found.answers.len(), offsets.len());
        }
    }
}
