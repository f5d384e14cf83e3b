//! What one naming has found so far, and the names that need no child process: those of Go's own
//! table and of perf-map files.
//!
//! Must not: decide in which order things are named.

use std::sync::Arc;

use super::collector::MAX_NAMES_BYTES;
use super::elf::Deadlines;
use super::frame::Place;
use super::golang;
use super::object_names::Found;
use super::perf_map as jit;
use super::stats::{NameStats, NamedBy, Unnamed};
use super::table::{Line, Named, SymbolTable};
use super::wanted::WantedObject;
use crate::binary::Bytes;
use crate::process::{Object, perf_map};

/// What one naming has found so far.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) table: SymbolTable,
    pub(super) stats: NameStats,
    /// Bytes left for names.
    pub(super) room: usize,
}

impl Default for Naming {
    fn default() -> Self {
        Self { table: SymbolTable::default(), stats: NameStats::default(), room: MAX_NAMES_BYTES }
    }
}

impl Naming {
    /// Names what is a Go program's own code; returns the other offsets.
    pub(super) fn name_go(
        &mut self,
        object: &Object,
        offsets: Vec<u64>,
        deadlines: Deadlines,
    ) -> Vec<u64> {
        let Some(file) = &object.file else { return offsets };
        let answers = golang::name(Bytes::File(file), &offsets, deadlines.all);
        let mut others = Vec::new();
        for (offset, answer) in offsets.into_iter().zip(answers) {
            match answer {
                Some(Ok(named)) => {
                    self.table.insert(Place::Object { object: object.number, offset }, named);
                    self.stats.add_named(NamedBy::Gopclntab);
                }
                Some(Err(cause)) => self.stats.add_unnamed(cause, 1),
                None => others.push(offset),
            }
        }
        others
    }

    /// Names what a JIT compiler has put into a process's memory, from the file it has now; if the
    /// process has ended, from the one it had.
    pub(super) fn name_jit(
        &mut self,
        object: &WantedObject,
        offsets: &[u64],
        deadlines: Deadlines,
    ) {
        let now = object.image.as_deref().and_then(perf_map);
        let Some(file) = now.as_ref().or(object.object.file.as_ref()) else {
            self.stats.add_unnamed(Unnamed::Anonymous, offsets.len());
            return;
        };
        let names = match jit::find(file, offsets, deadlines.all) {
            Ok(names) => names,
            Err(cause) => {
                self.stats.add_unnamed(cause, offsets.len());
                return;
            }
        };
        for (&offset, name) in offsets.iter().zip(names) {
            let Some(function) = name else {
                self.stats.add_unnamed(Unnamed::NoSymbol, 1);
                continue;
            };
            let line = Line { function, file: "".into(), line: 0 };
            let named = Named { lines: vec![line], module: String::new() };
            let place = Place::Object { object: object.object.number, offset };
            self.table.insert(place, Arc::new(named));
            self.stats.add_named(NamedBy::PerfMap);
        }
    }

    /// Takes the names of offsets in one object; `by` overrides who is said to know them.
    pub(super) fn take(&mut self, object: u32, offsets: &[u64], found: Found, by: Option<NamedBy>) {
        if let Some(cause) = found.skipped {
            self.stats.add_debug_skipped(cause);
        }
        self.room = found.room;
        for (&offset, answer) in offsets.iter().zip(found.answers) {
            match answer {
                Ok((found_by, named)) => {
                    self.table.insert(Place::Object { object, offset }, named);
                    self.stats.add_named(by.unwrap_or(found_by));
                }
                Err(cause) => self.stats.add_unnamed(cause, 1),
            }
        }
    }
}
