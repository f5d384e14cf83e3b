//! Walks the stack of a thread that sleeps, by the tables that the probes have, as the probes walk that of the
//! thread they run in.
//!
//! Must not: read a process. Whoever asks brings its memory.

use std::rc::Rc;

use holmes_common::limits::MAX_USER_FRAMES;
use holmes_common::record::flag;
use holmes_common::unwind::{CfaKind, Mapping, NO_EXE, PAGE_BITS, Row, WalkEnd};
use holmes_common::walk::{Frame, Memory, Next};
use rustc_hash::FxHashMap;

use super::executables::{Executables, Table};
use super::mappings::Mappings;
use super::unwinder::Unwinder;
use crate::kernel::UnwindMaps;

/// Rows kept at hand, 8 MiB: those of the pages that some hundred programs sleep in.
const MAX_ROWS: usize = 1 << 20;

/// Bits of a return address that are its signature on arm64: all above the 48 of an address and below the one
/// that tells user from kernel.
#[cfg(target_arch = "aarch64")]
const CODE_MASK: u64 = 0x007f_0000_0000_0000;

/// A row that says: by frame pointer.
const BY_FRAME_POINTER: Row = Row {
    pc_low: 0,
    cfa_kind: CfaKind::FramePointer as u8,
    bp_kind: 0,
    cfa_offset: 0,
    bp_offset: 0,
};

/// A stack, as far as it could be walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// As of `collect::Stack`.
    pub frames: Vec<u64>,
    /// How the walk has ended.
    pub end: WalkEnd,
    /// The address at which it ended before the outermost frame; 0 if it did not.
    pub stopped_at: u64,
    /// Bits of [`flag`].
    pub flags: u32,
}

/// Walks many stacks, one after the other.
pub struct Walker<'a> {
    mappings: &'a Mappings,
    executables: &'a Executables,
    maps: &'a dyn UnwindMaps,
    /// By the page's number in the probes' array.
    pages: FxHashMap<u32, Rc<[Row]>>,
    rows: usize,
}

/// Where a walk is.
struct Place {
    mapping: Mapping,
    table: Table,
}

impl Unwinder {
    /// What walks stacks by the tables that there are now.
    pub fn walker(&self) -> Walker<'_> {
        let (mappings, executables, maps) = self.tables();
        Walker { mappings, executables, maps, pages: FxHashMap::default(), rows: 0 }
    }
}

impl Walker<'_> {
    /// Walks the stack that begins at `leaf` in the memory of this process.
    pub fn walk(&mut self, tgid: u32, leaf: Frame, memory: &mut impl Memory) -> Walked {
        let mut walked =
            Walked { frames: vec![leaf.ip], end: WalkEnd::UnknownProcess, stopped_at: 0, flags: 0 };
        if !self.mappings.knows(tgid) {
            return walked;
        }
        walked.frames.clear();
        let (mut frame, mut place) = (leaf, None);
        walked.end = loop {
            if let Next::End(end) = self.step(tgid, &mut frame, &mut place, &mut walked, memory) {
                break end;
            }
        };
        if walked.end != WalkEnd::Outermost {
            walked.stopped_at = frame.ip;
        }
        if walked.end == WalkEnd::FrameLimit {
            walked.flags |= flag::USER_STACK_TRUNCATED;
        }
        walked
    }

    /// Takes the current frame in, and goes to its caller.
    fn step(
        &mut self,
        tgid: u32,
        frame: &mut Frame,
        place: &mut Option<Place>,
        walked: &mut Walked,
        memory: &mut impl Memory,
    ) -> Next {
        if walked.frames.len() >= MAX_USER_FRAMES {
            return Next::End(WalkEnd::FrameLimit);
        }
        let pc = frame.ip.wrapping_sub(u64::from(frame.behind));
        let was_wanted = place.as_ref().is_some_and(|place| place.table == Table::Wanted);
        if !place.as_ref().is_some_and(|place| holds(&place.mapping, pc)) {
            let Some(mapping) = self.mappings.mapping_at(tgid, pc) else {
                // The leaf is true wherever it is. Anything else that is no code was not a caller.
                if walked.frames.is_empty() {
                    walked.frames.push(frame.ip);
                }
                return Next::End(match frame.by_frame_pointer {
                    true if was_wanted => WalkEnd::NoTable,
                    true => WalkEnd::NoFramePointer,
                    false => WalkEnd::Unmapped,
                });
            };
            let exe = mapping.exe;
            let table = if exe == NO_EXE { Table::None } else { self.executables.table(exe) };
            *place = Some(Place { mapping, table });
        }
        walked.frames.push(frame.ip.wrapping_add(u64::from(frame.interrupted)));
        let mut row = BY_FRAME_POINTER;
        if let Some(Place { mapping, table }) = place {
            if *table == Table::Wanted {
                walked.flags |= flag::TABLE_WANTED;
            }
            row = self.row(*table, pc.wrapping_sub(mapping.bias)).unwrap_or(row);
        }
        let next = caller(frame, row, memory);
        if frame.by_frame_pointer {
            walked.flags |= flag::FRAME_POINTERS;
        }
        match next {
            // Frame pointers that stood in for a table may have missed a caller, wherever they led to.
            Next::End(WalkEnd::NoFramePointer | WalkEnd::Outermost)
                if walked.flags & flag::TABLE_WANTED != 0 =>
            {
                Next::End(WalkEnd::NoTable)
            }
            next => next,
        }
    }

    /// The row that holds for an address as linked.
    fn row(&mut self, table: Table, linked: u64) -> Option<Row> {
        let Table::Present { first_page, pages, base_page } = table else { return None };
        let page = ((linked >> PAGE_BITS) as u32).wrapping_sub(base_page);
        if page >= pages {
            return None;
        }
        let rows = self.rows_of(first_page.wrapping_add(page));
        let behind = rows.partition_point(|row| row.pc_low <= linked as u16);
        rows.get(behind.checked_sub(1)?).copied()
    }

    fn rows_of(&mut self, page: u32) -> Rc<[Row]> {
        if let Some(rows) = self.pages.get(&page) {
            return Rc::clone(rows);
        }
        let rows: Rc<[Row]> = self.maps.read_page_rows(page).into();
        if self.rows + rows.len() > MAX_ROWS {
            self.pages.clear();
            self.rows = 0;
        }
        self.rows += rows.len();
        self.pages.insert(page, Rc::clone(&rows));
        rows
    }
}

fn holds(mapping: &Mapping, address: u64) -> bool {
    mapping.start <= address && address < mapping.end
}

/// Of a thread that sleeps only the registers are known that rules usually need.
#[cfg(not(target_arch = "aarch64"))]
fn caller(frame: &mut Frame, row: Row, memory: &mut impl Memory) -> Next {
    holmes_common::walk::x86_64::caller(frame, row, memory, |_| None)
}

#[cfg(target_arch = "aarch64")]
fn caller(frame: &mut Frame, row: Row, memory: &mut impl Memory) -> Next {
    holmes_common::walk::aarch64::caller(frame, row, memory, CODE_MASK)
}
