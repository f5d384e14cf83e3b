//! The rules of code that nothing describes, from the code itself: musl's, which is built without
//! unwind information and without frame pointers, and assembly.
//!
//! From where functions begin, the instructions are followed wherever they lead, and each says what
//! it does to the stack pointer and to rbp. A function whose ways contradict each other, or that
//! would return with the wrong stack pointer, was not understood: it stays without rules. What is
//! left (the entries of jump tables, functions that nothing names) is tried with the frames that it
//! may have been entered with, and believed where it comes to a return, or meets known code, with the
//! right one.
//!
//! Only for x86-64: on arm64, functions without frame pointers are rare.
//!
//! Must not: read more of a file, or follow more of it, than a constant allows.

mod entry;
mod explore;
mod flow;
mod marks;
mod rest;
mod state;
mod survey;
mod symbols;

use self::explore::Code;
use self::marks::Region;
use super::frames::{Entry, Kind};
use super::rules::Machine;
use super::trampolines::{code, code_at, gaps};
use super::{ENTRY_POINT, Known};
use crate::binary::u64_at;

/// Bytes of code: all of musl has 0.4 MiB. Three bytes of memory are used for each.
const MAX_CODE_BYTES: u64 = 4 << 20;

/// Instructions that are decoded of one file. All of musl takes 0.4 M; eight, most of a second.
const MAX_INSTRUCTIONS: u64 = 2 * MAX_CODE_BYTES;

/// Rules of one file. All of musl has 14,000.
const MAX_RULES: usize = 1 << 18;

/// Less than this is the start-up code that compilers link to every program: not worth looking at the
/// symbols of large ones.
const MIN_CODE_BYTES: u64 = 256;

/// Adds what can be told of code that no entry covers. Takes and leaves entries in their order.
pub(super) fn add(known: &Known<'_>, entries: &mut Vec<Entry>) {
    if known.machine != Machine::X86_64 {
        return;
    }
    let gaps = gaps(&code(known), entries);
    let total = gaps.iter().map(|(from, to)| to - from).fold(0, u64::saturating_add);
    if total < MIN_CODE_BYTES {
        return;
    }
    let mut read = 0;
    let mut regions = Vec::new();
    for (from, to) in gaps {
        let len = (to - from).min(MAX_CODE_BYTES - read);
        if len == 0 {
            break;
        }
        // What cannot be read now has no rules: the others are worth having all the same.
        if let Some(bytes) = code_at(known.bytes, known.layout, from, len as usize) {
            read += bytes.len() as u64;
            regions.push(Region { begin: from, code: bytes });
        }
    }
    let mut code = Code::new(&regions, u64_at(&known.elf.header, ENTRY_POINT), MAX_INSTRUCTIONS);
    let is_in_gap = |address: u64| {
        let after = regions.partition_point(|region| region.begin <= address);
        let region = after.checked_sub(1).and_then(|before| regions.get(before));
        region.is_some_and(|region| address - region.begin < region.code.len() as u64)
    };
    if symbols::functions(known, is_in_gap, |address| code.add_start(address)) {
        code.all_are_named();
    }
    code.explore();
    let before = entries.len();
    code.rules(|begin, end, row| {
        if entries.len() - before < MAX_RULES {
            entries.push(Entry { begin, end, kind: Kind::Rule(row) });
        }
    });
    entries.sort_by_key(Entry::order);
}

#[cfg(test)]
mod tests;
