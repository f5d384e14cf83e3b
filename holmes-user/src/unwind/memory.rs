//! The probes' maps in memory, with the very lookup that the probes do. For tests.
//!
//! Must not: forgive. What the trait forbids fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use holmes_common::unwind::{Exe, Mapping, NO_EXE, PAGE_BITS, Page, Row, exe_state};

use crate::kernel::{KernelError, UnwindMaps, UnwindRoom};

/// What a lookup finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    UnknownProcess,
    Unmapped,
    /// Walk by frame pointer.
    NoFrames,
    NoTable,
    Row(Row),
}

pub(super) struct Inner {
    room: UnwindRoom,
    rows: Vec<Row>,
    pages: Vec<Page>,
    exes: Vec<Exe>,
    /// By process, length of the prefix, and address.
    pub(super) trie: BTreeMap<(u32, u32, u64), Mapping>,
    pub(super) trie_room: usize,
    pub(super) known: BTreeSet<u32>,
    /// Times a block was added or removed.
    pub(super) changes: usize,
}

/// Shared with the test that looks into them.
#[derive(Clone)]
pub(super) struct MemoryMaps(Arc<Mutex<Inner>>);

impl MemoryMaps {
    pub(super) fn new(rows: u32, pages: u32, exes: u32) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            room: UnwindRoom { rows, pages, exes },
            rows: vec![Row::default(); rows as usize],
            pages: vec![Page::default(); pages as usize],
            exes: vec![Exe::default(); exes as usize],
            trie: BTreeMap::new(),
            trie_room: usize::MAX,
            known: BTreeSet::new(),
            changes: 0,
        })))
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The executable's number at an address.
    pub(super) fn exe(&self, tgid: u32, address: u64) -> u32 {
        self.inner().mapping(tgid, address).unwrap().exe
    }

    /// As the probes note that they used a table.
    pub(super) fn used(&self, exe: u32, seconds: u32) {
        self.inner().exes[exe as usize].last_used = seconds;
    }

    pub(super) fn find(&self, tgid: u32, address: u64) -> Found {
        let inner = self.inner();
        if !inner.known.contains(&tgid) {
            return Found::UnknownProcess;
        }
        let Some(mapping) = inner.mapping(tgid, address) else { return Found::Unmapped };
        if mapping.exe == NO_EXE {
            return Found::NoFrames;
        }
        let exe = inner.exes[mapping.exe as usize];
        match exe.state {
            exe_state::PRESENT => {}
            exe_state::NONE => return Found::NoFrames,
            _ => return Found::NoTable,
        }
        let linked = address.wrapping_sub(mapping.bias);
        let page = (linked >> PAGE_BITS).wrapping_sub(exe.base_page.into());
        if page >= u64::from(exe.pages) {
            return Found::NoFrames;
        }
        let page = inner.pages[exe.first_page as usize + page as usize];
        let rows = &inner.rows[page.first_row as usize..][..page.rows as usize];
        match rows.iter().rev().find(|row| row.pc_low <= linked as u16) {
            Some(row) => Found::Row(*row),
            None => Found::NoFrames,
        }
    }
}

impl Inner {
    fn mapping(&self, tgid: u32, address: u64) -> Option<Mapping> {
        let found = (1..=64).rev().find_map(|bits| {
            let block = address & (u64::MAX << (64 - bits));
            self.trie.get(&(tgid, bits, block))
        })?;
        (found.start <= address && address < found.end).then_some(*found)
    }
}

impl UnwindMaps for MemoryMaps {
    fn room(&self) -> UnwindRoom {
        self.inner().room
    }

    fn write_rows(&mut self, first: u32, rows: &[Row]) {
        self.inner().rows[first as usize..][..rows.len()].copy_from_slice(rows);
    }

    fn write_pages(&mut self, first: u32, pages: &[Page]) {
        self.inner().pages[first as usize..][..pages.len()].copy_from_slice(pages);
    }

    fn write_exe(&mut self, number: u32, exe: Exe) {
        assert_ne!(number, NO_EXE);
        let old = &mut self.inner().exes[number as usize];
        *old = Exe { last_used: old.last_used, ..exe };
    }

    fn read_exe(&self, number: u32) -> Exe {
        self.inner().exes[number as usize]
    }

    fn read_page_rows(&self, page: u32) -> Vec<Row> {
        let inner = self.inner();
        let Page { first_row, rows } = inner.pages[page as usize];
        inner.rows[first_row as usize..][..rows as usize].to_vec()
    }

    fn insert_mapping(
        &mut self,
        tgid: u32,
        address: u64,
        prefix_bits: u32,
        mapping: Mapping,
    ) -> Result<(), KernelError> {
        let mut inner = self.inner();
        inner.changes += 1;
        inner.trie.insert((tgid, prefix_bits, address), mapping);
        let full = inner.trie.len() > inner.trie_room;
        if full {
            inner.trie.remove(&(tgid, prefix_bits, address));
        }
        if full { Err(KernelError::NoMap("MAPPINGS")) } else { Ok(()) }
    }

    fn remove_mapping(&mut self, tgid: u32, address: u64, prefix_bits: u32) {
        let mut inner = self.inner();
        inner.changes += 1;
        inner.trie.remove(&(tgid, prefix_bits, address));
    }

    fn set_process(&mut self, tgid: u32, known: bool) -> Result<(), KernelError> {
        let mut inner = self.inner();
        if known {
            inner.known.insert(tgid);
        } else {
            inner.known.remove(&tgid);
        }
        Ok(())
    }
}
