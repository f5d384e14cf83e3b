//! One second of the window: the values of each owner and stack.
//!
//! Must not: hold or release interned values; the ring does, for every cell that appears or goes.

use std::mem::size_of;

use rustc_hash::FxHashMap;

use super::cut::{Detail, Owner, ProfileKind, sum};
use super::intern::{Interned, table_bytes};
use crate::collect::Stack;

/// What the values of a cell belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CellKey {
    pub(super) kind: ProfileKind,
    pub(super) owner: Interned<Owner>,
    pub(super) stack: Interned<Stack>,
    pub(super) detail: Detail,
}

/// Owner of one second's values. Its keys are addresses of our own allocations, which no target
/// chooses, so the fast hash is safe here.
#[derive(Debug)]
pub(super) struct Bucket {
    cells: FxHashMap<CellKey, [i64; 2]>,
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self { cells: FxHashMap::default() }
    }

    /// Adds to a cell; says whether the cell is new.
    pub(super) fn add(&mut self, key: CellKey, values: [i64; 2]) -> bool {
        let before = self.cells.len();
        let cell = self.cells.entry(key).or_insert([0, 0]);
        *cell = sum(*cell, values);
        self.cells.len() > before
    }

    /// The cells of one kind, in no particular order.
    pub(super) fn cells(&self, kind: ProfileKind) -> impl Iterator<Item = (&CellKey, [i64; 2])> {
        self.cells
            .iter()
            .filter(move |(key, _)| key.kind == kind)
            .map(|(key, &values)| (key, values))
    }

    /// All cells, in no particular order.
    pub(super) fn into_keys(self) -> impl Iterator<Item = CellKey> {
        self.cells.into_keys()
    }

    /// Bytes of the bucket and of its table.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + table_bytes::<(CellKey, [i64; 2])>(self.cells.capacity())
    }
}
