//! Where signal handlers return to: code that no frame describes in musl and in Go programs.
//!
//! Must not: read more of a file than a constant allows.

use super::frames::{Entry, Kind};
use super::rules::Machine;
use super::{Known, Layout, MAX_PADDING_BYTES};
use crate::binary::Bytes;

/// `mov $15,%rax; syscall` as musl has it, and `mov $15,%eax; syscall` as Go has it: 15 is
/// `rt_sigreturn`.
const X86_64: [&[u8]; 2] =
    [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05], &[0xb8, 15, 0, 0, 0, 0x0f, 0x05]];

/// `mov x8, #139; svc #0`.
const ARM64: [&[u8]; 1] = [&[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]];

/// `SHF_EXECINSTR`.
const EXECUTABLE: u64 = 4;

/// The longest of them.
const LONGEST: usize = 9;

/// Bytes of a file that are searched. C libraries are small, and Go puts its run-time system where
/// the first megabytes are.
const MAX_SEARCHED_BYTES: u64 = 64 << 20;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Found ones that are kept: a program has one. More are bytes that happen to be the same.
const MAX_FOUND: usize = 16;

/// Frames of this kind that are compared with the code, with the found ones. Files have none or one.
const MAX_COMPARED: usize = 32;

/// Adds those in code that no frame covers, and sets those that frames describe to where the walk
/// looks for them. Takes and leaves entries in their order.
///
/// A handler's return address is the trampoline's first byte, and is looked up one byte earlier, as
/// return addresses are: so an entry for one begins a byte early.
pub(super) fn add(known: &Known<'_>, entries: &mut Vec<Entry>) {
    let &Known { bytes, layout, machine, .. } = known;
    let patterns: &[&[u8]] = match machine {
        Machine::X86_64 => &X86_64,
        Machine::Arm64 => &ARM64,
    };
    let mut found = Vec::new();
    let mut searched = 0;
    for (from, to) in gaps(&code(known), entries) {
        let mut from = from;
        while from < to && searched < MAX_SEARCHED_BYTES && found.len() < MAX_FOUND {
            let len = (to - from).min(CHUNK_BYTES);
            searched += len;
            let Some(code) = code_at(bytes, layout, from, len as usize) else { break };
            for (at, len) in matches(&code, patterns) {
                let begin = from + at as u64;
                found.push(Entry { begin, end: begin + len as u64, kind: Kind::Signal });
            }
            if len < CHUNK_BYTES {
                break;
            }
            // One may lie across the border of two chunks.
            from += len - (LONGEST as u64 - 1);
        }
    }
    found.truncate(MAX_FOUND);
    found.dedup();
    entries.append(&mut found);
    entries.sort_by_key(Entry::order);
    begin_early(bytes, layout, patterns, entries);
}

/// Signal frames begin a byte early. glibc's already do, at a `nop` put there for this. Where one
/// begins at the trampoline itself, the byte is taken from whatever is before; where that cannot be
/// told, only if it is nobody's.
fn begin_early(bytes: Bytes<'_>, layout: &Layout, patterns: &[&[u8]], entries: &mut [Entry]) {
    let mut compared = 0;
    let mut before: Option<&mut Entry> = None;
    for entry in entries {
        if entry.kind == Kind::Signal && entry.begin > 0 {
            compared += 1;
            let code = (compared <= MAX_COMPARED)
                .then(|| code_at(bytes, layout, entry.begin, LONGEST))
                .flatten()
                .unwrap_or_default();
            let is_first = patterns.iter().any(|pattern| code.starts_with(pattern));
            let free = before.as_ref().is_none_or(|before| before.end < entry.begin);
            if is_first || free {
                entry.begin -= 1;
            }
            if let Some(before) = before
                && is_first
            {
                before.end = before.end.min(entry.begin);
            }
        }
        before = Some(entry);
    }
}

/// Ranges of code, by address and without overlap: the sections that are, as a segment may hold all
/// of a library's data too; without sections the segments.
pub(super) fn code(known: &Known<'_>) -> Vec<(u64, u64)> {
    let sections = known.elf.sections.iter().filter(|section| section.flags & EXECUTABLE != 0);
    let mut code: Vec<_> = sections
        .map(|section| (section.address, section.address.saturating_add(section.size)))
        .collect();
    if code.is_empty() {
        let parts = known.layout.parts.iter().filter(|part| part.executable);
        code = parts.map(|part| (part.address, part.end())).collect();
    }
    code.sort_unstable();
    let mut covered = 0;
    for (from, to) in &mut code {
        *from = (*from).max(covered);
        covered = covered.max(*to);
    }
    code
}

/// Code that no entry covers and that is no padding.
pub(super) fn gaps(code: &[(u64, u64)], entries: &[Entry]) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    for &(from, to) in code {
        let mut at = from;
        let first = entries.partition_point(|entry| entry.begin < from);
        // One that begins before may reach into this range.
        let first = first.saturating_sub(1);
        for entry in entries.iter().skip(first).take_while(|entry| entry.begin < to) {
            if entry.begin.saturating_sub(at) >= MAX_PADDING_BYTES {
                gaps.push((at, entry.begin));
            }
            at = at.max(entry.end);
        }
        if to > at {
            gaps.push((at, to));
        }
    }
    gaps
}

pub(super) fn code_at(
    bytes: Bytes<'_>,
    layout: &Layout,
    address: u64,
    len: usize,
) -> Option<Vec<u8>> {
    let part = layout.code(address)?;
    let len = len.min((part.end() - address) as usize);
    // What cannot be read now has no trampolines: the frames are worth having all the same.
    bytes.read(part.offset + (address - part.address), len).ok()
}

/// Places and lengths of the patterns.
fn matches<'a>(
    code: &'a [u8],
    patterns: &'a [&'a [u8]],
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let starts = move |at: usize| {
        let rest = code.get(at..)?;
        let first = rest.first()?;
        // Most places differ in the first byte.
        let pattern = patterns.iter().find(|pattern| pattern.first() == Some(first))?;
        rest.starts_with(pattern).then_some((at, pattern.len()))
    };
    (0..code.len()).filter_map(starts)
}

#[cfg(test)]
mod tests {
    use holmes_common::unwind::CfaKind;

    use super::super::{Limits, NoTable, Outcome, Table, compile};
    use super::*;

    const LINKED: u64 = 0x40_0000;

    /// An ELF file of one executable segment with this code, and nothing else.
    fn elf(code: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        bytes[32] = 64; // e_phoff
        bytes[54] = 56; // e_phentsize
        bytes[56] = 1; // e_phnum
        bytes[64] = 1; // PT_LOAD
        bytes[68] = 5; // readable and executable
        let size = (bytes.len() + code.len()) as u64;
        bytes[64 + 16..64 + 24].copy_from_slice(&LINKED.to_le_bytes());
        bytes[64 + 32..64 + 40].copy_from_slice(&size.to_le_bytes());
        bytes.extend(code);
        bytes
    }

    fn kind_at(table: &Table, address: u64) -> u8 {
        table.find(address).map_or(0, |row| row.cfa_kind)
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn one_without_frames_is_found_by_its_bytes() {
        // Once near the start, once across the border of two chunks.
        for (pattern, at) in [(X86_64[0], 40), (X86_64[1], CHUNK_BYTES as usize - 3 - 120)] {
            let mut code = vec![0x90; 2 * CHUNK_BYTES as usize];
            code[at..at + pattern.len()].copy_from_slice(pattern);
            let Outcome::Table(table) =
                compile(Bytes::Memory(&elf(&code)), Limits::default()).outcome
            else {
                panic!("no table")
            };
            let address = LINKED + 120 + at as u64;
            let signal = CfaKind::Signal as u8;
            // Looked up one byte before, as the handler returns to its first.
            let kinds = [address - 2, address - 1, address + 2, address + pattern.len() as u64]
                .map(|address| kind_at(&table, address));
            assert_eq!(kinds, [0, signal, signal, 0]);
        }
    }

    #[test]
    fn code_without_anything_has_no_table() {
        let compiled = compile(Bytes::Memory(&elf(&[0x90; 4096])), Limits::default());
        assert!(matches!(compiled.outcome, Outcome::None(NoTable::NoFrames)));
        assert_eq!(compiled.layout.parts.len(), 1);
    }

    #[test]
    fn a_frame_that_begins_at_the_trampoline_takes_the_byte_before_it() {
        let bytes = elf(&[&[0x90; 100][..], X86_64[0], &[0x90; 100]].concat());
        let elf = crate::binary::Elf::read(Bytes::Memory(&bytes)).unwrap();
        let layout = Layout::new(&elf, Bytes::Memory(&bytes)).unwrap();
        let begin = LINKED + 120 + 100;
        let before = Entry { begin: begin - 50, end: begin, kind: Kind::Rule(Default::default()) };
        let signal = Entry { begin, end: begin + 9, kind: Kind::Signal };
        let mut entries = [before, signal];
        begin_early(Bytes::Memory(&bytes), &layout, &X86_64, &mut entries);
        assert_eq!((entries[0].end, entries[1].begin), (begin - 1, begin - 1));
        // One that begins elsewhere takes it only where it is nobody's.
        let signal = Entry { begin: begin + 1, ..signal };
        for (end, expected) in [(begin + 1, begin + 1), (begin, begin)] {
            let mut entries = [Entry { end, ..before }, signal];
            begin_early(Bytes::Memory(&bytes), &layout, &X86_64, &mut entries);
            assert_eq!((entries[0].end, entries[1].begin), (end, expected));
        }
    }
}
