//! Functions of a file that others can call, and its variables, by name: from its symbol tables.
//!
//! Format: System V gABI, chapter 4, "Symbol Table"; numbers from `elf.h`.
//!
//! Must not: read a table whole. They are searched in pieces; a target chooses their length.

use super::bytes::{BinaryError, Bytes, u16_at, u32_at, u64_at};
use super::elf::{Elf, Section};

/// Bytes of a table that are searched. Browsers have 100 MiB of symbols.
const MAX_FULL_BYTES: u64 = 512 << 20;

/// The same of what a file offers to others: LLVM has 5 MiB. There are hundreds of libraries in one
/// process.
const MAX_DYNAMIC_BYTES: u64 = 32 << 20;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Places of a name in a table of names. Linkers write a name once, and keep it as the end of a longer
/// one; more are a file's mischief.
const MAX_PLACES: usize = 64;

/// Symbols found under all names together: some functions have two versions.
const MAX_FOUND: usize = 256;

const SYMBOL: usize = 24;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;
const STB_GLOBAL: u8 = 1;
const STB_WEAK: u8 = 2;

/// A symbol table with its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolTableKind {
    /// What the file offers to other files.
    Dynamic,
    /// All its symbols, unless it was stripped.
    Full,
}

/// Finds the functions with these names: for each the name's place in `names`, and the offset in the
/// file of its first instruction. Functions that are the file's own alone are left out. A table that
/// the file does not have is one without symbols.
///
/// # Errors
/// The file cannot be read, or is no 64-bit ELF file.
pub fn functions(
    bytes: Bytes<'_>,
    kind: SymbolTableKind,
    names: &[&str],
) -> Result<Vec<(usize, u64)>, BinaryError> {
    search(bytes, kind, names, callable)
}

/// Finds the variables with these names, the file's own alone too: for each the name's place in `names`,
/// and its address, as linked. A file that was stripped has none.
///
/// # Errors
/// As [`functions`].
pub fn variables(bytes: Bytes<'_>, names: &[&str]) -> Result<Vec<(usize, u64)>, BinaryError> {
    search(bytes, SymbolTableKind::Full, names, |_, symbol| {
        let is_variable = symbol.get(4)? & 0xf == STT_OBJECT && u16_at(symbol, 6) != 0;
        is_variable.then(|| u64_at(symbol, 8))
    })
}

/// What `take` makes of the symbols with these names.
fn search(
    bytes: Bytes<'_>,
    kind: SymbolTableKind,
    names: &[&str],
    take: impl Fn(&Elf, &[u8]) -> Option<u64>,
) -> Result<Vec<(usize, u64)>, BinaryError> {
    let elf = Elf::read(bytes)?;
    let (symbols, strings, at_most) = match kind {
        SymbolTableKind::Dynamic => (".dynsym", ".dynstr", MAX_DYNAMIC_BYTES),
        SymbolTableKind::Full => (".symtab", ".strtab", MAX_FULL_BYTES),
    };
    let section = |name| {
        let found = elf.section(name)?;
        Some(Section { size: found.size.min(at_most), ..found.clone() })
    };
    let (Some(symbols), Some(strings)) = (section(symbols), section(strings)) else {
        return Ok(Vec::new());
    };
    let places = places(bytes, &strings, names)?;
    let mut found = Vec::new();
    if places.is_empty() {
        return Ok(found);
    }
    let whole_symbols = PIECE - PIECE % SYMBOL;
    for (offset, length) in pieces(&symbols, whole_symbols, 0) {
        for symbol in bytes.read(offset, length)?.chunks_exact(SYMBOL) {
            let Some(&(_, name)) = places.iter().find(|&&(at, _)| at == u32_at(symbol, 0)) else {
                continue;
            };
            let Some(place) = take(&elf, symbol) else { continue };
            if found.len() >= MAX_FOUND {
                return Ok(found);
            }
            if !found.contains(&(name, place)) {
                found.push((name, place));
            }
        }
    }
    Ok(found)
}

/// The offset in the file of a function that is defined in it and can be called from elsewhere.
fn callable(elf: &Elf, symbol: &[u8]) -> Option<u64> {
    let info = *symbol.get(4)?;
    let defined = u16_at(symbol, 6) != 0;
    let shared = [STB_GLOBAL, STB_WEAK].contains(&(info >> 4));
    if info & 0xf != STT_FUNC || !defined || !shared {
        return None;
    }
    let offset = elf.offset_of(u64_at(symbol, 8))?;
    let holds = |segment: &&super::elf::Segment| {
        offset.checked_sub(segment.offset).is_some_and(|into| into < segment.size)
    };
    elf.segments.iter().find(holds).filter(|segment| segment.executable).map(|_| offset)
}

/// Where the names begin in a table of names, each with its place in `names`.
fn places(
    bytes: Bytes<'_>,
    strings: &Section,
    names: &[&str],
) -> Result<Vec<(u32, usize)>, BinaryError> {
    let longest = names.iter().map(|name| name.len() + 1).max().unwrap_or(0);
    let mut places = Vec::new();
    let mut counts = vec![0; names.len()];
    // Pieces overlap by what a name can reach over their border.
    for (offset, length) in pieces(strings, PIECE, longest) {
        let piece = bytes.read(offset, length)?;
        for (end, _) in piece.iter().enumerate().filter(|&(_, &byte)| byte == 0) {
            for (index, name) in names.iter().enumerate() {
                let Some(start) = end.checked_sub(name.len()) else { continue };
                if piece.get(start..end) != Some(name.as_bytes()) {
                    continue;
                }
                let Some(known) = counts.get_mut(index).filter(|known| **known < MAX_PLACES) else {
                    continue;
                };
                let at = u32::try_from(offset - strings.offset + start as u64).ok();
                if let Some(place) = at.map(|at| (at, index)).filter(|at| !places.contains(at)) {
                    *known += 1;
                    places.push(place);
                }
            }
        }
    }
    Ok(places)
}

/// A section in pieces of `length` bytes, each beginning `overlap` bytes before the last one's end:
/// offsets in the file, and lengths.
fn pieces(section: &Section, length: usize, overlap: usize) -> impl Iterator<Item = (u64, usize)> {
    let (size, start) = (section.size, section.offset);
    let step = (length - overlap) as u64;
    (0..size.div_ceil(step)).map(move |number| {
        let from = number * step;
        (start + from, (size - from).min(length as u64) as usize)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    /// A name that can be found in this program.
    #[unsafe(no_mangle)]
    extern "C" fn holmes_symbols_test_function() {}

    #[test]
    fn a_function_of_this_program_and_none_that_it_only_calls() {
        let file = File::open("/proc/self/exe").unwrap();
        let names = ["malloc", "holmes_symbols_test_function", "symbols_test_function"];
        let found = functions(Bytes::File(&file), SymbolTableKind::Full, &names).unwrap();
        let elf = Elf::read(Bytes::File(&file)).unwrap();
        let [(1, offset)] = found[..] else { panic!("{found:?}") };
        let start = holmes_symbols_test_function as *const () as u64;
        let linked = elf.address_of(offset).unwrap();
        assert_eq!(start & 0xfff, linked & 0xfff, "{start:#x} is where {linked:#x} was linked for");
    }

    #[test]
    fn the_allocator_of_this_program_is_in_a_library() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().find_map(|line| {
            line.split(' ')
                .next_back()
                .filter(|path| path.contains("/libc.so") || path.contains("/ld-musl"))
        });
        let file = File::open(libc.unwrap()).unwrap();
        let names = ["malloc", "free"];
        let found = functions(Bytes::File(&file), SymbolTableKind::Dynamic, &names).unwrap();
        assert!([0, 1].iter().all(|name| found.iter().any(|found| found.0 == *name)), "{found:?}");
    }

    #[test]
    fn names_over_the_border_of_two_pieces_are_found() {
        let mut table = vec![b'x'; PIECE - 3];
        table.extend(b"\0malloc\0");
        let size = table.len() as u64;
        let strings =
            Section { name: ".strtab".to_owned(), kind: 3, flags: 0, address: 0, offset: 0, size };
        let found = places(Bytes::Memory(&table), &strings, &["malloc"]).unwrap();
        assert_eq!(found, [(PIECE as u32 - 2, 0)]);
    }

    proptest! {
        #[test]
        fn broken_tables_do_no_harm(
            changes in prop::collection::vec((0usize..(64 << 10), any::<u8>()), 1..40),
        ) {
            let mut bytes = std::fs::read("/proc/self/exe").unwrap();
            bytes.truncate(64 << 10);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            // Any answer is right; not panicking is the point.
            for kind in [SymbolTableKind::Dynamic, SymbolTableKind::Full] {
                let _ = functions(Bytes::Memory(&bytes), kind, &["malloc", "free"]);
            }
        }
    }
}
