//! Where a file's symbol tables say that functions begin.
//!
//! Format: System V gABI, chapter 4, "Symbol Table".
//!
//! Must not: keep names.

use super::super::Known;
use crate::binary::{u16_at, u32_at, u64_at};

/// Bytes of one table that are read: 340,000 symbols. The largest with code of their own have less.
const MAX_TABLE_BYTES: u64 = 8 << 20;

/// Bytes of a name that are looked at.
const NAME_BYTES: usize = 128;

const SYMBOL: usize = 24;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;

/// Calls `found` with the address of each function that is wanted, until it says no. Whether the file
/// still has the table that names them all.
pub(super) fn functions(
    known: &Known<'_>,
    is_wanted: impl Fn(u64) -> bool,
    mut found: impl FnMut(u64) -> bool,
) -> bool {
    let mut all = false;
    for (kind, names) in [(SHT_SYMTAB, ".strtab"), (SHT_DYNSYM, ".dynstr")] {
        let Some(table) = known.elf.sections.iter().find(|section| section.kind == kind) else {
            continue;
        };
        let len = table.size.min(MAX_TABLE_BYTES) as usize;
        let Ok(symbols) = known.bytes.read(table.offset, len) else { continue };
        let is_whole = kind == SHT_SYMTAB && len as u64 == table.size;
        for symbol in symbols.chunks_exact(SYMBOL) {
            let kind = symbol[4] & 0xf;
            let is_defined = u16_at(symbol, 6) != 0;
            let address = u64_at(symbol, 8);
            if !matches!(kind, STT_FUNC | STT_GNU_IFUNC) || !is_defined || !is_wanted(address) {
                continue;
            }
            let is_local = symbol[4] >> 4 == 0;
            if is_local && is_part(known, names, u32_at(symbol, 0)) {
                continue;
            }
            if !found(address) {
                return false;
            }
            all |= is_whole;
        }
    }
    all
}

/// Whether it is what GCC has cut out of a function, because it is rarely used: its frame is set up.
fn is_part(known: &Known<'_>, names: &str, name: u32) -> bool {
    let Some(section) = known.elf.section(names) else { return false };
    let Some(left) = section.size.checked_sub(name.into()) else { return false };
    let len = left.min(NAME_BYTES as u64) as usize;
    let bytes = known.bytes.read(section.offset + u64::from(name), len).unwrap_or_default();
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    name.windows(5).any(|part| part == b".cold")
}
