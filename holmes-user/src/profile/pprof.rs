//! A named cut as a pprof profile.
//!
//! Numbering is by first appearance in the cut, which has a fixed order: the same cut and names
//! give the same profile.

use rustc_hash::FxHashMap;

use super::about::About;
use super::function::{NO_STACK, with_module};
use super::mappings::Mappings;
use super::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::shown::shown_frames;
use crate::symbolize::{Named, Place, SymbolTable, frames};
use crate::window::{Cut, CutSample, Detail, Owner, ProfileKind};

/// The value of the `recorder` label on samples of the recorder itself.
const RECORDER: &str = "holmes-ebpf";

/// The pprof profile of a cut. Values are summed over samples with one stack and one set of labels.
pub fn encode(cut: &Cut, symbols: &SymbolTable, about: &About) -> Profile {
    let places = cut.samples.iter().flat_map(|sample| frames(sample).map(|frame| frame.place));
    let mut encoder = Encoder {
        symbols,
        mappings: Mappings::of(cut, places),
        strings: Strings::default(),
        functions: Functions::default(),
        locations: Vec::new(),
        location_ids: FxHashMap::default(),
        location_contents: FxHashMap::default(),
    };
    // The format's rule: the first string is empty.
    encoder.strings.id("");
    let sample_type =
        cut.kind.sample_types().iter().map(|&types| encoder.value_type(types)).collect();
    let sample = encoder.samples(cut);
    let mapping = encoder.mappings();
    let (period_type, period) = period(cut.kind, about);
    let period_type = Some(encoder.value_type(period_type));
    let comment = about.comments.iter().map(|comment| encoder.strings.id(comment)).collect();
    let default_sample_type = encoder.strings.id(default_type(cut.kind));
    Profile {
        sample_type,
        sample,
        mapping,
        location: encoder.locations,
        function: encoder.functions.list,
        string_table: encoder.strings.list,
        time_nanos: signed(about.start_unix_ns),
        duration_nanos: signed(cut.to.0.saturating_sub(cut.from.0)),
        period_type,
        period,
        comment,
        default_sample_type,
        ..Default::default()
    }
}

fn signed(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// What a reader shows first.
const fn default_type(kind: ProfileKind) -> &'static str {
    match kind {
        ProfileKind::Cpu => "cpu",
        ProfileKind::Mmap => "mapped",
        ProfileKind::Threads => "created",
        ProfileKind::Blocked => "delay",
        ProfileKind::Memory | ProfileKind::Allocations | ProfileKind::GoHeap => "inuse_space",
        ProfileKind::Goroutines => "goroutine",
    }
}

/// What stands between two samples: time for CPU, bytes for memory and allocations; of calls, threads
/// and goroutines, each one is recorded.
fn period(kind: ProfileKind, about: &About) -> ((&'static str, &'static str), i64) {
    match kind {
        ProfileKind::Cpu => (kind.sample_types()[1], signed(about.sample_period_ns.max(1))),
        ProfileKind::Mmap
        | ProfileKind::Threads
        | ProfileKind::Blocked
        | ProfileKind::Goroutines => (kind.sample_types()[0], 1),
        ProfileKind::Memory | ProfileKind::Allocations | ProfileKind::GoHeap => {
            (("space", "bytes"), signed(about.memory_interval.max(1)))
        }
    }
}

struct Encoder<'a> {
    symbols: &'a SymbolTable,
    mappings: Mappings,
    strings: Strings,
    functions: Functions,
    locations: Vec<Location>,
    /// `None` is the location of samples without a stack.
    location_ids: FxHashMap<Option<Place>, u64>,
    /// The same by content: places outside every mapping can look alike.
    location_contents: FxHashMap<(u64, u64, Vec<Line>), u64>,
}

impl Encoder<'_> {
    fn value_type(&mut self, (name, unit): (&str, &str)) -> ValueType {
        ValueType { r#type: self.strings.id(name), unit: self.strings.id(unit) }
    }

    fn samples(&mut self, cut: &Cut) -> Vec<Sample> {
        let mut samples: Vec<Sample> = Vec::with_capacity(cut.samples.len());
        let mut known: FxHashMap<(Vec<u64>, Vec<Label>), usize> = FxHashMap::default();
        for sample in &cut.samples {
            let mut location_id: Vec<u64> = shown_frames(sample, self.symbols)
                .map(|frame| self.location(frame.place))
                .collect();
            if location_id.is_empty() {
                location_id.push(self.no_stack());
            }
            let label = self.labels(sample);
            match known.get(&(location_id.clone(), label.clone())) {
                Some(&index) => {
                    for (sum, value) in samples[index].value.iter_mut().zip(sample.values) {
                        *sum = sum.saturating_add(value);
                    }
                }
                None => {
                    known.insert((location_id.clone(), label.clone()), samples.len());
                    let value = cut.kind.values(&sample.values).to_vec();
                    samples.push(Sample { location_id, value, label });
                }
            }
        }
        samples
    }

    fn labels(&mut self, sample: &CutSample) -> Vec<Label> {
        let owner: &Owner = &sample.owner;
        let pid = self.strings.id("pid");
        let mut labels = vec![Label { key: pid, num: owner.tgid.into(), ..Default::default() }];
        let container = owner.cgroup.container.as_ref().map_or("", |container| &container.id);
        let (memory, wait, lock, holder, blocked_for) = match sample.detail {
            Detail::None | Detail::Size(_) => ("", "", 0, 0, 0),
            Detail::Memory(memory) => (memory.label().unwrap_or_default(), "", 0, 0, 0),
            Detail::Wait { cause, lock, holder, blocked_for } => {
                ("", cause.label(), lock, holder, blocked_for)
            }
        };
        let texts = [
            ("comm", owner.comm.text()),
            ("cgroup", owner.cgroup.path.clone()),
            ("container", container.to_owned()),
            ("memory", memory.to_owned()),
            ("wait", wait.to_owned()),
            ("lock", if lock == 0 { String::new() } else { format!("{lock:#x}") }),
            ("holder", if holder == 0 { String::new() } else { holder.to_string() }),
            ("recorder", if owner.recorder { RECORDER.to_owned() } else { String::new() }),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                let (key, str) = (self.strings.id(key), self.strings.id(&text));
                labels.push(Label { key, str, ..Default::default() });
            }
        }
        if blocked_for != 0 {
            let (key, num_unit) = (self.strings.id("blocked_for"), self.strings.id("nanoseconds"));
            labels.push(Label { key, num: signed(blocked_for), num_unit, ..Default::default() });
        }
        if let Detail::Size(bytes) = sample.detail {
            // As Go's own heap profiles have it.
            let key = self.strings.id("bytes");
            labels.push(Label { key, num: signed(bytes), ..Default::default() });
        }
        for (key, text) in &sample.labels {
            let (key, str) = (self.strings.id(key), self.strings.id(text));
            labels.push(Label { key, str, ..Default::default() });
        }
        labels
    }

    fn location(&mut self, place: Place) -> u64 {
        if let Some(&id) = self.location_ids.get(&Some(place)) {
            return id;
        }
        let (mapping_id, address) = self.mappings.locate(place);
        let symbols = self.symbols;
        let line = symbols.get(place).map(|named| self.lines(named)).unwrap_or_default();
        self.add_location(Some(place), Location { mapping_id, address, line, ..Default::default() })
    }

    fn no_stack(&mut self) -> u64 {
        if let Some(&id) = self.location_ids.get(&None) {
            return id;
        }
        let function_id = self.functions.id(&mut self.strings, NO_STACK, "");
        let line = vec![Line { function_id, ..Default::default() }];
        self.add_location(None, Location { line, ..Default::default() })
    }

    fn add_location(&mut self, place: Option<Place>, mut location: Location) -> u64 {
        let content = (location.mapping_id, location.address, location.line.clone());
        let next = self.locations.len() as u64 + 1;
        let id = *self.location_contents.entry(content).or_insert(next);
        if id == next {
            location.id = id;
            self.locations.push(location);
        }
        self.location_ids.insert(place, id);
        id
    }

    fn lines(&mut self, named: &Named) -> Vec<Line> {
        let lines = named.lines.iter().filter(|line| !line.function.is_empty());
        lines
            .map(|line| {
                let name = with_module(&line.function, named);
                let function_id = self.functions.id(&mut self.strings, &name, &line.file);
                Line { function_id, line: line.line.into(), ..Default::default() }
            })
            .collect()
    }

    /// The mappings, with what is known of all their locations.
    fn mappings(&mut self) -> Vec<Mapping> {
        let functions = &self.functions.list;
        let mut known = vec![Known::default(); self.mappings.list().len()];
        for location in &self.locations {
            let index = (location.mapping_id as usize).checked_sub(1);
            if let Some(known) = index.and_then(|index| known.get_mut(index)) {
                known.add(location, functions);
            }
        }
        let strings = &mut self.strings;
        let numbered = self.mappings.list().iter().zip(known).enumerate();
        numbered
            .map(|(index, (mapping, known))| Mapping {
                id: index as u64 + 1,
                memory_start: mapping.start,
                memory_limit: mapping.limit,
                file_offset: mapping.file_offset,
                filename: strings.id(&mapping.path),
                build_id: strings.id(&mapping.build_id),
                has_functions: known.locations > 0 && known.without_function == 0,
                has_filenames: known.locations > 0 && known.without_file == 0,
                has_line_numbers: known.locations > 0 && known.without_line == 0,
                has_inline_frames: known.without_function == 0 && known.inlined > 0,
            })
            .collect()
    }
}

/// What is known of the locations in a mapping.
#[derive(Clone, Default)]
struct Known {
    locations: usize,
    without_function: usize,
    without_file: usize,
    without_line: usize,
    inlined: usize,
}

impl Known {
    fn add(&mut self, location: &Location, functions: &[Function]) {
        let file = |line: &Line| functions[line.function_id as usize - 1].filename != 0;
        let unnamed = location.line.is_empty();
        self.locations += 1;
        self.without_function += usize::from(unnamed);
        self.without_file += usize::from(unnamed || !location.line.iter().all(file));
        self.without_line +=
            usize::from(unnamed || location.line.iter().any(|line| line.line == 0));
        self.inlined += usize::from(location.line.len() > 1);
    }
}

/// The string table.
#[derive(Default)]
struct Strings {
    list: Vec<String>,
    ids: FxHashMap<String, i64>,
}

impl Strings {
    fn id(&mut self, text: &str) -> i64 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.list.len() as i64;
        self.ids.insert(text.to_owned(), id);
        self.list.push(text.to_owned());
        id
    }
}

/// The functions, by name and file.
#[derive(Default)]
struct Functions {
    list: Vec<Function>,
    ids: FxHashMap<(i64, i64), u64>,
}

impl Functions {
    fn id(&mut self, strings: &mut Strings, name: &str, file: &str) -> u64 {
        let (name, filename) = (strings.id(name), strings.id(file));
        let next = self.list.len() as u64 + 1;
        let id = *self.ids.entry((name, filename)).or_insert(next);
        if id == next {
            let function = Function { id, name, system_name: name, filename, start_line: 0 };
            self.list.push(function);
        }
        id
    }
}

#[cfg(test)]
mod tests;
