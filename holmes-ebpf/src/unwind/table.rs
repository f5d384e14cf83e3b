//! Which row of which table holds for an address: trie of mappings, executable, page, row.

use aya_ebpf::maps::lpm_trie::Key;
use holmes_common::unwind::{CfaKind, MappingKey, NO_EXE, PAGE_BITS, Row, exe_state};

use super::walk::Walk;
use crate::maps::{EXES, MAPPINGS, PAGES, ROWS};

/// Steps of a binary search among the rows of a page, of which there is at most one for each byte.
const SEARCH_STEPS: u32 = PAGE_BITS + 1;

/// A process id and an address, in bits.
const KEY_BITS: u32 = 32 + 64;

/// A row that says: by frame pointer.
const BY_FRAME_POINTER: Row = Row {
    pc_low: 0,
    cfa_kind: CfaKind::FramePointer as u8,
    bp_kind: 0,
    cfa_offset: 0,
    bp_offset: 0,
};

/// Makes the mapping that `pc` lies in the walk's current one. Whether there is one.
#[inline(always)]
pub(super) fn enter_mapping(walk: &mut Walk, tgid: u32, pc: u64) -> bool {
    // Most callers are in the executable of their callee.
    if pc.wrapping_sub(walk.start) < walk.length {
        return true;
    }
    let key = Key::new(KEY_BITS, MappingKey { tgid: tgid.to_be(), address: pc.to_be() });
    let Some(mapping) = MAPPINGS.get(key) else {
        return false;
    };
    // Blocks of the trie cover whole pages, of a mapping that begins and ends with a page.
    walk.start = mapping.start;
    walk.length = mapping.end.wrapping_sub(mapping.start);
    walk.bias = mapping.bias;
    walk.pages = 0;
    walk.table_wanted = false;
    if mapping.exe != NO_EXE
        && let Some(exe) = EXES.get_ptr_mut(mapping.exe)
    {
        // SAFETY: the pointer comes from the map. User space writes `pages` last.
        let state = unsafe { (&raw const (*exe).state).read_volatile() };
        if state == exe_state::PRESENT {
            // SAFETY: as above.
            unsafe {
                walk.pages = (&raw const (*exe).pages).read_volatile();
                walk.first_page = (*exe).first_page;
                walk.base_page = (*exe).base_page;
                // Only if it has changed: the line is shared by all CPUs.
                if (*exe).last_used != walk.now {
                    (*exe).last_used = walk.now;
                }
            }
        } else {
            walk.table_wanted = state == exe_state::ABSENT;
        }
    }
    true
}

/// The row that holds for `pc`, in the walk's current mapping.
#[inline(always)]
pub(super) fn row(walk: &Walk, pc: u64) -> Row {
    let linked = pc.wrapping_sub(walk.bias);
    let page = ((linked >> PAGE_BITS) as u32).wrapping_sub(walk.base_page);
    if page >= walk.pages {
        return BY_FRAME_POINTER;
    }
    let Some(page) = PAGES.get(walk.first_page.wrapping_add(page)) else {
        return BY_FRAME_POINTER;
    };
    if page.rows == 0 {
        return BY_FRAME_POINTER;
    }
    let low = linked as u16;
    let mut first = page.first_row;
    let mut count = page.rows;
    // The last row that begins at or before the address; the page's first one begins at 0.
    for _ in 0..SEARCH_STEPS {
        if count <= 1 {
            break;
        }
        let half = count >> 1;
        let middle = first.wrapping_add(half);
        let Some(row) = ROWS.get(middle) else {
            return BY_FRAME_POINTER;
        };
        if row.pc_low <= low {
            first = middle;
        }
        count -= half;
    }
    ROWS.get(first).copied().unwrap_or(BY_FRAME_POINTER)
}
