//! Names all places of some cuts, file by file, within a time.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::elf::{self, Deadlines};
use super::excerpt::{Excerpt, ExcerptError};
use super::frame::{Place, frames};
use super::golang;
use super::kallsyms;
use super::perf_map as jit;
use super::stats::{NameStats, NamedBy, Unnamed};
use super::table::{Line, Named, SymbolTable};
use crate::binary::{BinaryError, Bytes, vdso};
use crate::process::{Image, Object, ObjectKind, perf_map};
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
    /// With the usual time for each incident.
    pub const fn new() -> Self {
        Self::with_budget(DEFAULT_BUDGET)
    }

    /// With this much time for each incident. After half of it no debug information is read any
    /// more; after all of it the rest stays unnamed.
    pub const fn with_budget(budget: Duration) -> Self {
        Self { budget, vdso: None, kernel_warned: false }
    }

    fn name_objects(&mut self, wanted: Vec<WantedObject>, deadlines: Deadlines, out: &mut Naming) {
        for object in wanted {
            let offsets: Vec<u64> = object.offsets.iter().copied().collect();
            if Instant::now() >= deadlines.all {
                out.stats.add_unnamed(Unnamed::OutOfTime, offsets.len());
                continue;
            }
            let number = object.object.number;
            match object.object.kind {
                ObjectKind::File => {
                    let offsets = out.name_go(&object.object, offsets, deadlines);
                    if offsets.is_empty() {
                        continue;
                    }
                    match file_excerpt(&object.object) {
                        Ok(excerpt) => out.name_in(&excerpt, number, &offsets, deadlines, None),
                        Err(cause) => out.stats.add_unnamed(cause, offsets.len()),
                    }
                }
                ObjectKind::Vdso => match self.vdso.get_or_insert_with(vdso_excerpt) {
                    Ok(excerpt) => {
                        out.name_in(excerpt, number, &offsets, deadlines, Some(NamedBy::Vdso));
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
        // Then the kernel: one bounded read, and in every incident.
        self.name_kernel(wanted.kernel, &mut out);
        self.name_objects(files, deadlines, &mut out);
        (out.table, out.stats)
    }
}

fn file_excerpt(object: &Object) -> Result<Excerpt, Unnamed> {
    let file = object.file.as_ref().ok_or(Unnamed::NotOpen)?;
    excerpt(Bytes::File(file), &object.path, &object.build_id)
}

fn vdso_excerpt() -> Result<Excerpt, Unnamed> {
    let bytes = vdso().map_err(|error| {
        tracing::warn!("{error}; frames in it stay unnamed");
        Unnamed::Unreadable
    })?;
    excerpt(Bytes::Memory(&bytes), "[vdso]", "")
}

fn excerpt(bytes: Bytes<'_>, path: &str, build_id: &str) -> Result<Excerpt, Unnamed> {
    Excerpt::of(bytes, build_id).map_err(|error| {
        tracing::debug!(path, error = &error as &dyn std::error::Error, "frames stay unnamed");
        match error {
            ExcerptError::Read(BinaryError::Malformed(_)) => Unnamed::NotElf,
            ExcerptError::Read(BinaryError::Read(_)) | ExcerptError::Write(_) => {
                Unnamed::Unreadable
            }
        }
    })
}

/// What one naming has found so far.
#[derive(Debug, Default)]
struct Naming {
    table: SymbolTable,
    stats: NameStats,
}

impl Naming {
    /// Names what is a Go program's own code; returns the other offsets.
    fn name_go(&mut self, object: &Object, offsets: Vec<u64>, deadlines: Deadlines) -> Vec<u64> {
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
    fn name_jit(&mut self, object: &WantedObject, offsets: &[u64], deadlines: Deadlines) {
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

    /// Names offsets in one file; `by` overrides who is said to know the names.
    fn name_in(
        &mut self,
        excerpt: &Excerpt,
        object: u32,
        offsets: &[u64],
        deadlines: Deadlines,
        by: Option<NamedBy>,
    ) {
        let (answers, skipped) = elf::name(excerpt, offsets, deadlines);
        if let Some(cause) = skipped {
            self.stats.add_debug_skipped(cause);
        }
        for (&offset, answer) in offsets.iter().zip(answers) {
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

/// The places of some cuts, each once.
#[derive(Debug, Default)]
struct Wanted {
    kernel: BTreeSet<u64>,
    unmapped: BTreeSet<u64>,
    objects: FxHashMap<u32, WantedObject>,
}

#[derive(Debug)]
struct WantedObject {
    object: Arc<Object>,
    /// An image that maps it: of memory without a file, there is no other process.
    image: Option<Arc<Image>>,
    /// Samples with a frame in it.
    weight: u64,
    offsets: BTreeSet<u64>,
}

impl Wanted {
    fn of(cuts: &[&Cut]) -> Self {
        let mut wanted = Self::default();
        for sample in cuts.iter().flat_map(|cut| &cut.samples) {
            for frame in frames(sample) {
                match (frame.place, frame.object) {
                    (Place::Object { object, offset }, Some(mapped)) => {
                        let entry = wanted.objects.entry(object).or_insert_with(|| WantedObject {
                            object: mapped.clone(),
                            image: sample.owner.image.clone(),
                            weight: 0,
                            offsets: BTreeSet::new(),
                        });
                        entry.weight += sample.values[0].unsigned_abs();
                        entry.offsets.insert(offset);
                    }
                    (Place::Kernel(address), _) => {
                        wanted.kernel.insert(address);
                    }
                    (Place::Unmapped(address), _)
                    | (Place::Object { offset: address, .. }, None) => {
                        wanted.unmapped.insert(address);
                    }
                }
            }
        }
        wanted
    }

    /// The objects, those of most samples first: if the time runs out, it was spent well.
    fn by_weight(&mut self) -> Vec<WantedObject> {
        let objects = std::mem::take(&mut self.objects);
        let mut objects: Vec<WantedObject> = objects.into_values().collect();
        objects.sort_by_key(|object| (std::cmp::Reverse(object.weight), object.object.number));
        objects
    }
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
