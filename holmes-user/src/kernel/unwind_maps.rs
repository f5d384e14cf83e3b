//! The maps in which the probes look up how to unwind: where the rows, pages, executables and
//! mappings of `holmes_common::unwind` are written.
//!
//! Must not: decide what is in them.

mod array;
mod loaded;

pub use loaded::LoadedUnwindMaps;

use holmes_common::unwind::{Exe, Mapping, Page, Row};

use super::error::KernelError;

/// What the maps hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindRoom {
    /// Rows.
    pub rows: u32,
    /// Pages.
    pub pages: u32,
    /// Executables, with number 0, which is never used.
    pub exes: u32,
}

/// Writes unwind tables where the probes find them. A trait, so that what decides about the tables
/// can be tested without a kernel.
///
/// Ranges outside [`Self::room`] are ignored. The probes read while this is written: whoever writes
/// puts rows before the pages that lead to them, pages before the executable, the executable before
/// the mappings; and does not reuse rows and pages of a withdrawn executable for two seconds, in
/// which every walk under way has ended.
pub trait UnwindMaps {
    /// What they hold at most.
    fn room(&self) -> UnwindRoom;
    /// Writes rows from this index on.
    fn write_rows(&mut self, first: u32, rows: &[Row]);
    /// Writes pages from this index on.
    fn write_pages(&mut self, first: u32, pages: &[Page]);
    /// Writes an executable's entry; [`Exe::last_used`] is left as the probes wrote it.
    fn write_exe(&mut self, number: u32, exe: Exe);
    /// An executable's entry, with when the probes used it last.
    fn read_exe(&self, number: u32) -> Exe;
    /// The rows of a page, by the page's index; none where they cannot be read.
    fn read_page_rows(&self, page: u32) -> Vec<Row>;
    /// Adds the block of `2^(64 - prefix_bits)` addresses from `address` on to what is known of a
    /// process.
    ///
    /// # Errors
    /// The trie is full.
    fn insert_mapping(
        &mut self,
        tgid: u32,
        address: u64,
        prefix_bits: u32,
        mapping: Mapping,
    ) -> Result<(), KernelError>;
    /// Removes such a block. One that is not there is no error.
    fn remove_mapping(&mut self, tgid: u32, address: u64, prefix_bits: u32);
    /// Says whether the mappings of a process are all there: until then the probes do not walk its
    /// stacks by them.
    ///
    /// # Errors
    /// The map of processes is full.
    fn set_process(&mut self, tgid: u32, known: bool) -> Result<(), KernelError>;
}
