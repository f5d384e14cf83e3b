//! Another process's memory page by page, for what is found by following pointers: neighbours there are
//! neighbours in memory.
//!
//! Must not: be used for what changes, where nothing tells afterwards that it has: a page is read once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::error::GoError;
use super::memory::{END, Memory, Piece};
use super::target::Target;

/// Bytes of a page: either all of them are mapped or none.
const PAGE: u64 = 4096;
/// Pages that are remembered, 16 MiB. Beyond, all are forgotten.
const MAX_PAGES: usize = 4096;

/// Pages of a process that were read.
pub(super) struct Pages<'a, M> {
    target: &'a Target,
    memory: &'a M,
    /// By their number; a page that is not mapped is empty. The target chooses them: not by a fast hash.
    known: HashMap<u64, Vec<u8>>,
}

impl<'a, M: Memory> Pages<'a, M> {
    /// Of a process of which nothing was read yet.
    pub(super) fn new(target: &'a Target, memory: &'a M) -> Self {
        Self { target, memory, known: HashMap::new() }
    }

    /// Copies so many bytes from an address on; `false` if they are not all there.
    ///
    /// # Errors
    /// The process cannot be read.
    pub(super) fn copy(
        &mut self,
        address: u64,
        len: usize,
        into: &mut Vec<u8>,
    ) -> Result<bool, GoError> {
        into.clear();
        let mut at = address;
        while into.len() < len {
            if at >= END {
                return Ok(false);
            }
            let page = self.page(at / PAGE)?;
            let part = page.get((at % PAGE) as usize..).unwrap_or_default();
            let part = part.get(..len - into.len()).unwrap_or(part);
            if part.is_empty() {
                return Ok(false);
            }
            into.extend(part);
            at += part.len() as u64;
        }
        Ok(true)
    }

    fn page(&mut self, number: u64) -> Result<&[u8], GoError> {
        if self.known.len() >= MAX_PAGES && !self.known.contains_key(&number) {
            self.known.clear();
        }
        match self.known.entry(number) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(room) => {
                let piece = Piece { address: number * PAGE, len: PAGE as usize };
                let mut bytes = Vec::new();
                let are_there = self
                    .memory
                    .read(&[piece], &mut bytes)
                    .map_err(|error| GoError::of(self.target.pid, error))?;
                if are_there.contains(&false) {
                    bytes.clear();
                }
                Ok(room.insert(bytes))
            }
        }
    }
}
