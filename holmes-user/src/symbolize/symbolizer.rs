//! Names all places of some cuts, file by file, within a time.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::debuginfod::Debuginfod;
use super::elf::Deadlines;
use super::excerpt::{CopyDebug, Excerpt, ExcerptError};
use super::frame::Place;
use super::kallsyms;
use super::naming::Naming;
use super::object_names::{self, Helpers};
use super::stats::{NameStats, NamedBy, Unnamed};
use super::table::{Line, Named, SymbolTable};
use super::wanted::{Wanted, WantedObject};
use super::worker::Worker;
use crate::binary::{BinaryError, Bytes, vdso};
use crate::process::ObjectKind;
use crate::window::Cut;

/// Time for naming one incident. An incident is promised on disk 3 s after its window closes.
const DEFAULT_BUDGET: Duration = Duration::from_secs(2);

/// Gives names to the places of cuts: [`Symbolizer`] from the files, [`Recorded`] from a recording.
pub trait Name {
    /// The names of everything in the cuts of one incident. Never fails: what cannot be named is
    /// absent from the table, and counted by cause.
    fn name(&mut self, cuts: &[&Cut]) -> (SymbolTable, NameStats);
}

/// Names places from the files that the images hold open and from the kernel's symbol table.
///
/// Naming takes long (up to its budget) and keeps one CPU busy: it belongs on a thread of its own.
#[derive(Debug)]
pub struct Symbolizer {
    budget: Duration,
    helpers: Helpers,
    /// The vDSO's names, made when first needed; `Err` once that has failed.
    vdso: Option<Result<Excerpt, Unnamed>>,
    /// Whether it has been said that kernel addresses cannot be named.
    kernel_warned: bool,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer {
    /// With the usual time for each incident, and debug information of the files alone, read in
    /// this process within narrow bounds.
    pub fn new() -> Self {
        Self::with_budget(DEFAULT_BUDGET)
    }

    /// As [`Symbolizer::new`], with this much time for each incident.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// As [`Symbolizer::new`], with separate debug files from these folders.
    #[must_use]
    pub fn debug_dirs(mut self, folders: Vec<PathBuf>) -> Self {
        self.helpers.debug_dirs = folders;
        self
    }

    /// As [`Symbolizer::new`], and what a debuginfod server has sent.
    #[must_use]
    pub fn debuginfod(mut self, debuginfod: Option<Arc<Debuginfod>>) -> Self {
        self.helpers.debuginfod = debuginfod;
        self
    }

    /// As [`Symbolizer::new`], with files read by a child process. `program` is this program: it is
    /// started with the argument `symbolize-worker`, and has to call [`super::worker::run`] then.
    #[must_use]
    pub fn worker(mut self, program: PathBuf) -> Self {
        self.helpers.worker = Some(Worker::new(program));
        self
    }

    /// With this much time for each incident. After half of it no debug information is read any
    /// more; after all of it the rest stays unnamed.
    pub fn with_budget(budget: Duration) -> Self {
        Self { budget, helpers: Helpers::default(), vdso: None, kernel_warned: false }
    }

    fn name_objects(&mut self, objects: Vec<WantedObject>, deadlines: Deadlines, out: &mut Naming) {
        let last = objects.len().saturating_sub(1);
        for (index, object) in objects.into_iter().enumerate() {
            let offsets: Vec<u64> = object.offsets.iter().copied().collect();
            if Instant::now() >= deadlines.all {
                out.stats.add_unnamed(Unnamed::OutOfTime, offsets.len());
                continue;
            }
            let deadlines = if index < last { deadlines.share() } else { deadlines };
            let number = object.object.number;
            match object.object.kind {
                ObjectKind::File => {
                    let offsets = out.name_go(&object.object, offsets, deadlines);
                    if offsets.is_empty() {
                        continue;
                    }
                    match self.helpers.open(&object.object, deadlines) {
                        Ok(opened) => {
                            let found = self.helpers.name(&opened, &offsets, deadlines, out.room);
                            out.take(number, &offsets, found, None);
                        }
                        Err(cause) => out.stats.add_unnamed(cause, offsets.len()),
                    }
                }
                ObjectKind::Vdso => match self.vdso.get_or_insert_with(vdso_excerpt) {
                    Ok(excerpt) => {
                        let found = object_names::name_here(
                            excerpt, None, None, &offsets, deadlines, out.room,
                        );
                        out.take(number, &offsets, found, Some(NamedBy::Vdso));
                    }
                    Err(cause) => out.stats.add_unnamed(*cause, offsets.len()),
                },
                ObjectKind::Anonymous => out.name_jit(&object, &offsets, deadlines),
            }
        }
    }

    fn name_kernel(&mut self, addresses: BTreeSet<u64>, out: &mut Naming) {
        if addresses.is_empty() {
            return;
        }
        let addresses: Vec<u64> = addresses.into_iter().collect();
        let found =
            std::fs::File::open("/proc/kallsyms").map_err(kallsyms::KallsymsError::Read).and_then(
                |file| kallsyms::find(BufReader::with_capacity(KALLSYMS_BUFFER, file), &addresses),
            );
        let symbols = match found {
            Ok(symbols) => symbols,
            Err(error) => {
                if !std::mem::replace(&mut self.kernel_warned, true) {
                    tracing::warn!("kernel frames stay unnamed: {error}");
                }
                out.stats.add_unnamed(Unnamed::KernelHidden, addresses.len());
                return;
            }
        };
        for (address, symbol) in addresses.into_iter().zip(symbols) {
            match symbol {
                Some(symbol) => {
                    let line = Line { function: symbol.name.into(), file: "".into(), line: 0 };
                    let named = Named { lines: vec![line], module: symbol.module };
                    out.table.insert(Place::Kernel(address), Arc::new(named));
                    out.stats.add_named(NamedBy::Kernel);
                }
                None => out.stats.add_unnamed(Unnamed::NoSymbol, 1),
            }
        }
    }
}

/// The kernel makes the text of kallsyms while it is read: fewer calls, less time.
const KALLSYMS_BUFFER: usize = 64 << 10;

impl Name for Symbolizer {
    fn name(&mut self, cuts: &[&Cut]) -> (SymbolTable, NameStats) {
        let now = Instant::now();
        let deadlines = Deadlines { debug: now + self.budget / 2, all: now + self.budget };
        let mut wanted = Wanted::of(cuts);
        let mut out = Naming::default();
        out.stats.add_unnamed(Unnamed::Unmapped, wanted.unmapped.len());
        let (jit, files): (Vec<_>, Vec<_>) = wanted
            .by_weight()
            .into_iter()
            .partition(|object| object.object.kind == ObjectKind::Anonymous);
        // What only a running process has comes first, in a part of the time: such a file can be long.
        let part = Deadlines { all: deadlines.debug, ..deadlines };
        self.name_objects(jit, part, &mut out);
        // Then the kernel: one bounded read, and in every incident. Its time is not the files': a slow
        // or busy CPU takes seconds to make that text, and the program's own names matter more than
        // being in time.
        let began = Instant::now();
        self.name_kernel(wanted.kernel, &mut out);
        self.name_objects(files, deadlines.later(began.elapsed()), &mut out);
        self.helpers.end();
        (out.table, out.stats)
    }
}

fn vdso_excerpt() -> Result<Excerpt, Unnamed> {
    let bytes = vdso().map_err(|error| {
        tracing::warn!("{error}; frames in it stay unnamed");
        Unnamed::Unreadable
    })?;
    excerpt(Bytes::Memory(&bytes), "[vdso]", CopyDebug::Yes)
}

pub(super) fn excerpt(bytes: Bytes<'_>, path: &str, debug: CopyDebug) -> Result<Excerpt, Unnamed> {
    Excerpt::of(bytes, debug).map_err(|error| {
        tracing::debug!(path, error = &error as &dyn std::error::Error, "frames stay unnamed");
        match error {
            ExcerptError::Read(BinaryError::Malformed(_)) => Unnamed::NotElf,
            ExcerptError::Read(BinaryError::Read(_)) | ExcerptError::Write(_) => {
                Unnamed::Unreadable
            }
        }
    })
}

/// Names from a recording, for a replay without root and without the files.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    table: SymbolTable,
}

impl Recorded {
    /// With these names.
    pub const fn new(table: SymbolTable) -> Self {
        Self { table }
    }
}

impl Name for Recorded {
    fn name(&mut self, cuts: &[&Cut]) -> (SymbolTable, NameStats) {
        let mut out = Naming::default();
        let wanted = Wanted::of(cuts);
        out.stats.add_unnamed(Unnamed::Unmapped, wanted.unmapped.len());
        let kernel = wanted.kernel.into_iter().map(Place::Kernel);
        let objects = wanted.objects.into_iter().flat_map(|(object, wanted)| {
            wanted.offsets.into_iter().map(move |offset| Place::Object { object, offset })
        });
        for place in kernel.chain(objects) {
            match self.table.get(place) {
                Some(named) => {
                    out.table.insert(place, named.clone());
                    out.stats.add_named(NamedBy::Recorded);
                }
                None => out.stats.add_unnamed(Unnamed::NotRecorded, 1),
            }
        }
        (out.table, out.stats)
    }
}

#[cfg(test)]
mod tests;
