//! Doors for `tests/fuzz`: the readers of this stage on bytes that anybody may have written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::build_id::{MAX_ID_BYTES, find};
use super::elf::{MAX_SECTIONS, MAX_SEGMENTS};
use super::{Bytes, Elf, GoTable, debug_info};

/// Rows of Go functions asked for. Reached by small files, so that the bound is tried, too.
const MAX_ROWS: usize = 512;
/// Functions looked up in one table, and the distance of the addresses tried in each.
const FUNCTIONS: u32 = 64;
const STRIDE: usize = 7;
/// Inlined calls at one address, and the function itself.
const MAX_LINES: usize = 65;

/// Headers and build-id of an executable.
pub fn elf(data: &[u8]) {
    let bytes = Bytes::Memory(data);
    let id = find(|buffer, offset| {
        buffer.copy_from_slice(&bytes.read(offset, buffer.len()).ok()?);
        Some(())
    });
    if let Some(id) = id {
        assert!(!id.is_empty() && id.len() <= 2 * MAX_ID_BYTES);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    let Ok(elf) = Elf::read(bytes) else { return };
    assert!(elf.segments.len() <= MAX_SEGMENTS && elf.sections.len() <= MAX_SECTIONS);
    for section in &elf.sections {
        let end = section.offset.checked_add(section.size);
        assert!(end.is_some_and(|end| end <= data.len() as u64), "{section:?}");
    }
    for segment in &elf.segments {
        // The last byte too: nothing may overflow there.
        for into in [0, segment.size / 2, segment.size.saturating_sub(1)] {
            if into < segment.size {
                assert!(elf.address_of(segment.offset + into).is_some());
                assert!(elf.offset_of(segment.address + into).is_some());
            }
        }
    }
}

/// Debug information: behind a byte with its length what says how entries look, then entries.
pub fn debug_info(data: &[u8]) {
    const NAMES: [&str; 4] = ["pkg.g", "pkg.dead", "pkg.texts", "pkg.number"];
    let Some((&len, rest)) = data.split_first() else { return };
    let Some((abbrev, info)) = rest.split_at_checked(len.into()) else { return };
    let Ok(facts) = debug_info::read(info, abbrev, &["pkg"], &NAMES) else { return };
    for (name, found) in &facts.structs {
        assert!(NAMES.contains(&name.as_str()) && found.members.len() <= debug_info::MAX_MEMBERS);
    }
    assert!(facts.constants.len() <= NAMES.len() && facts.lengths.len() <= NAMES.len());
}

/// Go's function table: rows, look-ups and lines.
pub fn gopclntab(data: &[u8]) {
    let bytes = Bytes::Memory(data);
    let Ok(elf) = Elf::read(bytes) else { return };
    let Ok(Some(mut table)) = GoTable::find(bytes, &elf) else { return };
    let mut rows = Vec::new();
    if let Ok(counts) = table.frame_rows(MAX_ROWS, |row| rows.push(row)) {
        assert_eq!(counts.rows, rows.len());
        assert!(rows.len() <= MAX_ROWS);
        for pair in rows.windows(2) {
            assert!(pair[0].address <= pair[1].address, "rows are in order: {pair:?}");
            assert_ne!(pair[0].rule, pair[1].rule, "neighbours differ");
        }
    }
    for index in 0..table.len().min(FUNCTIONS) {
        let Ok(function) = table.function(index) else { continue };
        assert!(function.entry <= function.end);
        let mut deltas = table.sp_deltas(&function);
        let mut behind = function.entry;
        while let Ok(Some((addresses, _))) = deltas.step() {
            assert!(addresses.start == behind && addresses.end <= function.end);
            behind = addresses.end;
        }
        for address in (function.entry..function.end).step_by(STRIDE).take(8) {
            if let Ok(lines) = table.lines(&function, address) {
                assert!((1..=MAX_LINES).contains(&lines.len()));
            }
            if let Ok(Some(found)) = table.function_at(address) {
                assert!(found.entry <= address, "{found:?} at {address:#x}");
            }
        }
    }
    for address in [0, 1, u64::MAX] {
        // Any answer will do; that there is one is the point.
        let _ = table.function_at(address);
    }
}
