//! Doors for `tests/fuzz`: the maker of tables on bytes that anybody may have written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use holmes_common::unwind::{BpKind, CfaKind, PAGE_BITS};

use super::compile::{Limits, Outcome, compile};
use crate::binary::Bytes;

/// Small, so that small files reach them.
const LIMITS: Limits = Limits { rows: 2048, pages: 256 };

/// The address of the made-up executable's first byte: so that its code lies in two pages of the
/// table, and is still short.
const BASE: usize = 0xfd00;
/// Where it has its code: behind its headers.
const CODE: usize = 0x200;
/// Its bytes of code, all zero. Few: code that no frame covers is searched byte by byte, which
/// would be most of what a target does.
const CODE_BYTES: usize = 0x200;
/// Where its frames begin, in the file and in memory.
const FRAMES: usize = CODE + CODE_BYTES;
const NAMES: &[u8] = b"\0.text\0.eh_frame\0.shstrtab\0";

/// The table of an executable: of the bytes if they are an ELF file, else of one that has them as
/// its `.eh_frame`.
pub fn eh_frame(data: &[u8]) {
    let made_up;
    let file = if data.starts_with(b"\x7fELF") {
        data
    } else {
        made_up = executable(data);
        &made_up
    };
    let compiled = compile(Bytes::Memory(file), LIMITS);
    for part in &compiled.layout.parts {
        assert!(part.offset + part.size <= file.len() as u64 && part.end() <= 1 << 47);
    }
    let Outcome::Table(table) = compiled.outcome else { return };
    assert!(table.rows.len() <= LIMITS.rows as usize);
    assert!(table.pages.len() <= LIMITS.pages as usize);
    let mut next = 0;
    for (index, page) in table.pages.iter().enumerate() {
        assert_eq!(page.first_row as usize, next, "pages lie one after the other");
        next += page.rows as usize;
        let rows = &table.rows[page.first_row as usize..next];
        assert!(rows.first().is_none_or(|row| row.pc_low == 0), "a page's first row begins it");
        for pair in rows.windows(2) {
            assert!(pair[0].pc_low < pair[1].pc_low, "rows are in order");
        }
        let start = (u64::from(table.base_page) + index as u64) << PAGE_BITS;
        for row in rows {
            assert!(row.cfa_kind <= CfaKind::FramePointerElsewhere as u8);
            assert!(row.bp_kind <= BpKind::Lost as u8);
            assert_eq!(table.find(start + u64::from(row.pc_low)), Some(*row));
        }
    }
    assert_eq!(next, table.rows.len(), "every row belongs to a page");
}

/// An ELF file of one segment with code and these frames.
fn executable(frames: &[u8]) -> Vec<u8> {
    let names = FRAMES + frames.len();
    let sections = (names + NAMES.len()).next_multiple_of(8);
    let mut file = vec![0; sections + 4 * 64];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    // A shared object for x86-64.
    put(16, &[3, 0, 62, 0, 1]);
    put(32, &64_u64.to_le_bytes());
    put(40, &(sections as u64).to_le_bytes());
    for (at, value) in [(52, 64), (54, 56), (56, 1), (58, 64), (60, 4), (62, 3_u16)] {
        put(at, &value.to_le_bytes());
    }
    // Loadable, readable and executable, from the file's start to its end.
    put(64, &[1, 0, 0, 0, 5]);
    for (at, value) in [(80, BASE), (88, BASE), (96, names), (104, names)] {
        put(at, &(value as u64).to_le_bytes());
    }
    put(FRAMES, frames);
    put(names, NAMES);
    let kinds =
        [(1, 1, CODE, CODE_BYTES), (7, 1, FRAMES, frames.len()), (17, 3, names, NAMES.len())];
    for (index, (name, kind, offset, size)) in kinds.into_iter().enumerate() {
        let at = sections + 64 * (index + 1);
        put(at, &[name, 0, 0, 0, kind]);
        // Loaded, but for the names; code can be executed.
        put(at + 8, &[[6, 2, 0][index]]);
        for (field, value) in [(16, BASE + offset), (24, offset), (32, size)] {
            put(at + field, &(value as u64).to_le_bytes());
        }
    }
    file
}
