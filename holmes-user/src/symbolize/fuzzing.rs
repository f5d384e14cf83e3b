//! Doors for `tests/fuzz`: what finds names, on bytes that anybody may have written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use std::io::Cursor;
use std::time::{Duration, Instant};

use super::collector::MAX_NAMES_BYTES;
use super::compressed::{section_size, xz_size};
use super::demangle::MAX_NAME_BYTES;
use super::elf::{Deadlines, MAX_LINES};
use super::excerpt::{CopyDebug, Excerpt};
use super::table::Named;
pub use super::worker::fuzzing::{reply, request};
use super::{demangle, golang, kallsyms, object_names, perf_map};
use crate::binary::Bytes;

/// Addresses asked for, sorted: the ends, and where seeds have code.
const ADDRESSES: [u64; 8] = [
    0,
    1,
    0x40_1008,
    0x7f00_0000_1000,
    0xffff_ffff_8100_0010,
    0xffff_ffff_c000_0008,
    u64::MAX - 1,
    u64::MAX,
];

/// Offsets asked for in a file: about as far apart as functions, within the sizes of inputs.
const OFFSETS: u64 = 256;
const STRIDE: u64 = 32;

/// Time for one file. The target's own limit is longer: what looks at the time keeps to it.
const BUDGET: Duration = Duration::from_secs(2);

/// The symbol tables and debug information of a file, as they are read without a child process.
///
/// A parser of others that panics costs one file's names. The target must let panics pass that are
/// caught.
pub fn names(data: &[u8]) {
    let bytes = Bytes::Memory(data);
    let offsets: Vec<u64> = (0..OFFSETS).map(|index| index * STRIDE).collect();
    let answers = golang::name(bytes, &offsets, Instant::now() + BUDGET);
    assert_eq!(answers.len(), offsets.len());
    for named in answers.into_iter().flatten().flatten() {
        check(&named);
    }
    let Ok(excerpt) = Excerpt::of(bytes, CopyDebug::Yes) else { return };
    let now = Instant::now();
    let deadlines = Deadlines { debug: now + BUDGET / 2, all: now + BUDGET };
    let room = MAX_NAMES_BYTES;
    let found = object_names::name_here(&excerpt, None, None, &offsets, deadlines, room);
    assert_eq!(found.answers.len(), offsets.len());
    assert!(found.room <= room);
    for (_, named) in found.answers.into_iter().flatten() {
        check(&named);
    }
}

fn check(named: &Named) {
    assert!((1..=MAX_LINES).contains(&named.lines.len()));
    for line in &named.lines {
        assert!(line.function.len() <= MAX_NAME_BYTES && line.file.len() <= MAX_NAME_BYTES);
    }
}

/// A mangled name.
pub fn mangled(data: &[u8]) {
    assert!(demangle::demangle(&String::from_utf8_lossy(data)).len() <= MAX_NAME_BYTES);
}

/// The kernel's symbols.
pub fn kernel_symbols(data: &[u8]) {
    let Ok(found) = kallsyms::find(data, &ADDRESSES) else { return };
    assert_eq!(found.len(), ADDRESSES.len());
    for symbol in found.iter().flatten() {
        assert!(symbol.name.len() <= MAX_NAME_BYTES && symbol.module.len() <= data.len());
    }
}

/// A JIT compiler's file.
pub fn jit_symbols(data: &[u8]) {
    let found = perf_map::find(Cursor::new(data), &ADDRESSES, Instant::now() + BUDGET);
    let Ok(found) = found else { return };
    assert_eq!(found.len(), ADDRESSES.len());
    assert!(found.iter().flatten().all(|name| name.len() <= MAX_NAME_BYTES));
}

/// A packed section, and packed symbols.
pub fn packed(data: &[u8]) {
    const LIMIT: u64 = 1 << 20;
    assert!(section_size(data, LIMIT).is_none_or(|size| size <= LIMIT));
    assert!(xz_size(data, LIMIT).is_none_or(|size| size <= LIMIT));
}
