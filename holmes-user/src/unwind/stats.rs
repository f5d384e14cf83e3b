//! What is counted of the tables.
//!
//! Must not: decide anything.

use std::time::Duration;

use super::compile::NoTable;

/// The tables, the room they take, and what went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnwindStats {
    /// Tables that the probes can use now.
    pub tables: u64,
    /// Executables with a number, with or without a table.
    pub executables: u64,
    /// Rows in tables.
    pub rows_used: u64,
    /// Rows there is room for.
    pub rows_room: u64,
    /// Pages in tables.
    pub pages_used: u64,
    /// Pages there is room for.
    pub pages_room: u64,
    /// Entries of the trie of mappings.
    pub mapping_entries: u64,
    /// Entries there is room for.
    pub mapping_room: u64,
    /// Processes whose mappings the probes know.
    pub processes: u64,
    /// Times a process was left out because its mappings found no room.
    pub processes_refused: u64,
    /// Tables made.
    pub compiled: u64,
    /// Executables without one, by reason, in the order of [`NoTable::NAMES`].
    pub failed: [u64; NoTable::NAMES.len()],
    /// Tables taken from the probes to make room.
    pub evicted: u64,
    /// Tables made that found no room.
    pub no_room: u64,
    /// Times the workers' queue was full.
    pub queue_overflows: u64,
    /// Mappings walked by frame pointer because their file is not open.
    pub not_open: u64,
    /// Mappings walked by frame pointer because there was no number for their executable.
    pub no_number: u64,
    /// Time the workers spent, all together.
    pub compile_time: Duration,
}
