//! A timeline that the recorder wrote, seen by thread, whichever format it is in.
//!
//! Must not: trust it. Whatever is read passes the project's validator first.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use holmes_user::profile::timeline::proto::{InternedData, Trace, event_type};
use holmes_user::profile::timeline::{ChromeTrace, validate};
use prost::Message;
use serde_json::Value;

/// A valid timeline.
#[derive(Clone, Debug, Default)]
pub struct TimelineView {
    /// By process and thread.
    pub threads: BTreeMap<(u64, u64), ThreadView>,
}

/// A thread's track.
#[derive(Clone, Debug, Default)]
pub struct ThreadView {
    /// Its name.
    pub name: String,
    /// Its process's.
    pub process: String,
    /// In the order of the file.
    pub slices: Vec<Slice>,
    /// The leaf functions of its CPU samples.
    pub samples: Vec<String>,
}

/// A slice of a track.
#[derive(Clone, Debug)]
pub struct Slice {
    /// First moment, in nanoseconds since one that all slices share.
    pub from: u64,
    /// The moment behind the last.
    pub to: u64,
    /// Its name.
    pub name: String,
    /// Its category.
    pub category: String,
    /// What else is told of it, as text.
    pub details: BTreeMap<String, String>,
}

impl Slice {
    /// How long it takes, in nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.to - self.from
    }

    /// A detail; empty where it is not told.
    pub fn detail(&self, name: &str) -> &str {
        self.details.get(name).map_or("", String::as_str)
    }

    /// Whether it is a wait in this function for this cause.
    pub fn is_wait(&self, function: &str, cause: &str) -> bool {
        self.category == "wait"
            && self.detail("function") == function
            && self.detail("cause") == cause
    }
}

impl TimelineView {
    /// Reads a file, packed or not, in the format that its name says.
    ///
    /// # Errors
    /// It cannot be read, or the validator objects.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mut plain = bytes;
        if plain.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&plain[..]).read_to_end(&mut unpacked)?;
            plain = unpacked;
        }
        let name = path.to_string_lossy();
        let read = if name.contains(".json") { chrome(&plain) } else { perfetto(&plain) };
        read.with_context(|| format!("the timeline {name}"))
    }

    /// The slices of all threads that are waits in this function for this cause.
    pub fn waits(&self, function: &str, cause: &str) -> Vec<&Slice> {
        let slices = self.threads.values().flat_map(|thread| &thread.slices);
        slices.filter(|slice| slice.is_wait(function, cause)).collect()
    }
}

impl ThreadView {
    /// Nanoseconds in slices of this category.
    pub fn nanos(&self, category: &str) -> u64 {
        let slices = self.slices.iter().filter(|slice| slice.category == category);
        slices.map(Slice::nanos).sum()
    }
}

fn chrome(text: &[u8]) -> anyhow::Result<TimelineView> {
    if let Err(violations) = validate::chrome(text) {
        bail!("the validator objects: {violations:#?}");
    }
    let trace: ChromeTrace = serde_json::from_slice(text)?;
    let mut view = TimelineView::default();
    let mut processes = HashMap::new();
    for event in trace.trace_events {
        let name = || event.args.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if event.name == "process_name" {
            processes.insert(event.pid, name());
            continue;
        }
        let thread = view.threads.entry((event.pid, event.tid)).or_default();
        match event.ph.as_str() {
            "M" => {
                thread.name = name();
                thread.process = processes.get(&event.pid).cloned().unwrap_or_default();
            }
            "X" => {
                let nanos = |micros: Option<f64>| (micros.unwrap_or(0.0) * 1e3).round() as u64;
                let from = nanos(event.ts);
                let details = event.args.into_iter().map(|(name, value)| {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    (name, text)
                });
                thread.slices.push(Slice {
                    from,
                    to: from + nanos(event.dur),
                    name: event.name,
                    category: event.cat.unwrap_or_default(),
                    details: details.collect(),
                });
            }
            _ => thread.samples.push(event.name),
        }
    }
    Ok(view)
}

/// What a trace has interned, by number.
#[derive(Default)]
struct Interned {
    categories: HashMap<u64, String>,
    names: HashMap<u64, String>,
    details: HashMap<u64, String>,
    texts: HashMap<u64, String>,
    functions: HashMap<u64, String>,
    frames: HashMap<u64, u64>,
    leaves: HashMap<u64, u64>,
}

impl Interned {
    fn add(&mut self, data: &InternedData) {
        let names = [
            (&mut self.categories, &data.event_categories),
            (&mut self.names, &data.event_names),
            (&mut self.details, &data.debug_annotation_names),
        ];
        for (table, new) in names {
            table.extend(new.iter().map(|it| (it.iid(), it.name().to_owned())));
        }
        let texts = [
            (&mut self.texts, &data.debug_annotation_string_values),
            (&mut self.functions, &data.function_names),
        ];
        for (table, new) in texts {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            table.extend(new.iter().map(|it| (it.iid(), text(it.str()))));
        }
        self.frames.extend(data.frames.iter().map(|it| (it.iid(), it.function_name_id())));
        let leaf = |frames: &[u64]| frames.last().copied().unwrap_or(0);
        self.leaves.extend(data.callstacks.iter().map(|it| (it.iid(), leaf(&it.frame_ids))));
    }

    fn leaf(&self, callstack: u64) -> Option<&String> {
        let frame = self.leaves.get(&callstack)?;
        self.functions.get(self.frames.get(frame)?)
    }
}

fn perfetto(bytes: &[u8]) -> anyhow::Result<TimelineView> {
    if let Err(violations) = validate::perfetto(bytes) {
        bail!("the validator objects: {violations:#?}");
    }
    let trace = Trace::decode(bytes)?;
    let mut view = TimelineView::default();
    let mut interned = Interned::default();
    // By number of the track: process and thread.
    let mut tracks = HashMap::new();
    let mut processes = HashMap::new();
    for packet in &trace.packet {
        packet.interned_data.iter().for_each(|data| interned.add(data));
        let time = packet.timestamp();
        if let Some(track) = &packet.track_descriptor {
            if let Some(process) = &track.process {
                processes.insert(process.pid(), process.process_name().to_owned());
            }
            if let Some(thread) = &track.thread {
                let key = (u64::try_from(thread.pid())?, u64::try_from(thread.tid())?);
                tracks.insert(track.uuid(), key);
                let view = view.threads.entry(key).or_default();
                view.name = thread.thread_name().to_owned();
                view.process = processes.get(&thread.pid()).cloned().unwrap_or_default();
            }
        }
        if let Some(event) = &packet.track_event
            && let Some(key) = tracks.get(&event.track_uuid())
        {
            let thread = view.threads.entry(*key).or_default();
            if event.r#type() == event_type::SLICE_END {
                thread.slices.last_mut().context("nothing has begun")?.to = time;
                continue;
            }
            let details = event.debug_annotations.iter().map(|it| {
                let value = match (it.string_value_iid, it.pointer_value, it.uint_value) {
                    (Some(text), ..) => interned.texts.get(&text).cloned().unwrap_or_default(),
                    (_, Some(address), _) => format!("{address:#x}"),
                    (_, _, Some(number)) => number.to_string(),
                    _ => it.bool_value().to_string(),
                };
                (interned.details.get(&it.name_iid()).cloned().unwrap_or_default(), value)
            });
            let category = event.category_iids.first().and_then(|it| interned.categories.get(it));
            thread.slices.push(Slice {
                from: time,
                to: time,
                name: interned.names.get(&event.name_iid()).cloned().unwrap_or_default(),
                category: category.cloned().unwrap_or_default(),
                details: details.collect(),
            });
        }
        if let Some(sample) = &packet.perf_sample {
            let key = (sample.pid().into(), sample.tid().into());
            let leaf = interned.leaf(sample.callstack_iid()).context("a sample without a stack")?;
            ensure!(view.threads.contains_key(&key), "a sample of nobody's: {key:?}");
            view.threads.entry(key).or_default().samples.push(leaf.clone());
        }
    }
    Ok(view)
}
