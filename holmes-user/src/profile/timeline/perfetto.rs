//! A timeline in Perfetto's format, as ui.perfetto.dev shows it best: a track for each process and thread,
//! a slice for each span, and CPU samples with whole stacks, so that any part of a track has a flame graph.
//!
//! Times are `CLOCK_MONOTONIC`; one snapshot of clocks says what the wall clock was.

use std::hash::Hash;
use std::io::{self, Write};

use prost::Message;
use rustc_hash::FxHashMap;

use super::super::about::About;
use super::names::{self, Detail, Function, Names, Shown};
use super::proto::{
    Callstack, Clock, ClockSnapshot, DebugAnnotation, Frame, InternedData, InternedName,
    InternedString, Mapping, PerfSample, ProcessDescriptor, ThreadDescriptor, TracePacket,
    TracePacketDefaults, TrackDescriptor, TrackEvent, clock, cpu_mode, event_type, sequence_flag,
};
use super::validate::{PerfettoChecker, Violation};
use crate::collect::Nanos;
use crate::window::{ThreadLine, Timeline};

/// All packets are one sequence's.
const SEQUENCE: u32 = 1;

/// The track of what is told of the timeline as a whole.
const ABOUT_TRACK: u64 = 1;

/// The tag of a packet in a trace: field 1, with a length.
const PACKET: u8 = 1 << 3 | 2;

/// Writes the trace; returns the rules that it breaks.
pub(super) fn write(
    timeline: &Timeline,
    names: &Names,
    about: &About,
    out: &mut dyn Write,
) -> io::Result<Vec<Violation>> {
    let mut writer = Writer {
        out,
        checker: PerfettoChecker::default(),
        names,
        interned: Interned::default(),
        tracks: ABOUT_TRACK,
    };
    writer.begin(timeline, about)?;
    let mut processes: FxHashMap<u32, u64> = FxHashMap::default();
    for line in &timeline.threads {
        let known = processes.get(&line.owner.tgid).copied();
        let process = match known {
            Some(track) => track,
            None => writer.process(line, timeline.from)?,
        };
        processes.insert(line.owner.tgid, process);
        writer.line(line, process, timeline.from)?;
    }
    Ok(writer.checker.finish())
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    checker: PerfettoChecker,
    names: &'a Names,
    interned: Interned<'a>,
    /// The last track's number.
    tracks: u64,
}

impl<'a> Writer<'a> {
    fn packet(&mut self, time: Nanos, packet: TracePacket) -> io::Result<()> {
        let packet = TracePacket {
            timestamp: Some(time.0),
            trusted_packet_sequence_id: Some(SEQUENCE),
            sequence_flags: packet.sequence_flags.or(Some(sequence_flag::NEEDS_STATE)),
            interned_data: self.interned.take_new(),
            ..packet
        };
        self.checker.packet(&packet);
        self.out.write_all(&[PACKET])?;
        self.out.write_all(&packet.encode_length_delimited_to_vec())
    }

    /// The clocks, and what is told of the timeline as a whole.
    fn begin(&mut self, timeline: &Timeline, about: &About) -> io::Result<()> {
        let says = |id, time| Clock { clock_id: Some(id), timestamp: Some(time) };
        let clocks = vec![
            says(clock::MONOTONIC, timeline.from.0),
            says(clock::REALTIME, about.start_unix_ns),
        ];
        let snapshot = ClockSnapshot { clocks, primary_trace_clock: Some(clock::MONOTONIC) };
        let first = TracePacket {
            clock_snapshot: Some(snapshot),
            sequence_flags: Some(sequence_flag::CLEARED),
            trace_packet_defaults: Some(TracePacketDefaults {
                timestamp_clock_id: Some(clock::MONOTONIC),
            }),
            ..TracePacket::default()
        };
        self.packet(timeline.from, first)?;
        let name = Some("holmes-ebpf".to_owned());
        let track = TrackDescriptor { uuid: Some(ABOUT_TRACK), name, ..Default::default() };
        self.track(timeline.from, track)?;
        let lines = about.comments.iter().map(|comment| DebugAnnotation {
            string_value: Some(comment.clone()),
            ..DebugAnnotation::default()
        });
        let comments = DebugAnnotation {
            name_iid: Some(self.interned.details.id("comments")),
            array_values: lines.collect(),
            ..DebugAnnotation::default()
        };
        let event = TrackEvent {
            r#type: Some(event_type::INSTANT),
            name_iid: Some(self.interned.names.id("about".to_owned())),
            track_uuid: Some(ABOUT_TRACK),
            debug_annotations: vec![comments],
            ..TrackEvent::default()
        };
        self.event(timeline.from, event)
    }

    fn track(&mut self, time: Nanos, track: TrackDescriptor) -> io::Result<()> {
        self.packet(time, TracePacket { track_descriptor: Some(track), ..Default::default() })
    }

    fn event(&mut self, time: Nanos, event: TrackEvent) -> io::Result<()> {
        self.packet(time, TracePacket { track_event: Some(event), ..Default::default() })
    }

    /// The track of a line's process.
    fn process(&mut self, line: &ThreadLine, time: Nanos) -> io::Result<u64> {
        self.tracks += 1;
        let process = ProcessDescriptor {
            pid: Some(line.owner.tgid.cast_signed()),
            process_name: Some(names::process(&line.owner)),
        };
        let (uuid, process) = (Some(self.tracks), Some(process));
        self.track(time, TrackDescriptor { uuid, process, ..Default::default() })?;
        Ok(self.tracks)
    }

    fn line(&mut self, line: &ThreadLine, process: u64, time: Nanos) -> io::Result<()> {
        self.tracks += 1;
        let track = self.tracks;
        let thread = ThreadDescriptor {
            pid: Some(line.owner.tgid.cast_signed()),
            tid: Some(line.tid.into()),
            thread_name: Some(names::thread(&line.owner)),
        };
        let descriptor = TrackDescriptor {
            uuid: Some(track),
            parent_uuid: Some(process),
            thread: Some(thread),
            ..TrackDescriptor::default()
        };
        self.track(time, descriptor)?;
        let names = self.names;
        for span in &line.spans {
            let shown = names.span(span);
            let callstack_iid = shown.place.map(|place| self.callstack(place));
            let begin = TrackEvent {
                r#type: Some(event_type::SLICE_BEGIN),
                category_iids: vec![self.interned.categories.id(shown.category)],
                name_iid: Some(self.interned.names.id(shown.name.clone().into_owned())),
                track_uuid: Some(track),
                debug_annotations: self.annotations(&shown),
                callstack_iid,
            };
            self.event(span.from, begin)?;
            let end = TrackEvent {
                r#type: Some(event_type::SLICE_END),
                track_uuid: Some(track),
                ..TrackEvent::default()
            };
            self.event(span.to, end)?;
        }
        for sample in &line.samples {
            let place = names.places().get(sample.place);
            let in_kernel = place.is_some_and(|place| place.in_kernel);
            let perf_sample = PerfSample {
                cpu: Some(sample.cpu),
                pid: Some(line.owner.tgid),
                tid: Some(line.tid),
                callstack_iid: place.map(|_| self.callstack(sample.place)),
                cpu_mode: Some(if in_kernel { cpu_mode::KERNEL } else { cpu_mode::USER }),
            };
            let packet = TracePacket { perf_sample: Some(perf_sample), ..Default::default() };
            self.packet(sample.time, packet)?;
        }
        Ok(())
    }

    fn callstack(&mut self, place: usize) -> u64 {
        let functions = self.names.places().get(place).map_or(&[][..], |place| &place.functions);
        self.interned.callstack(place, functions)
    }

    fn annotations(&mut self, shown: &Shown<'a>) -> Vec<DebugAnnotation> {
        let details = shown.details.iter();
        details
            .map(|(name, detail)| {
                let mut annotation = DebugAnnotation {
                    name_iid: Some(self.interned.details.id(name)),
                    ..DebugAnnotation::default()
                };
                match *detail {
                    Detail::Text(text) => {
                        annotation.string_value_iid = Some(self.interned.texts.id(text));
                    }
                    Detail::Number(number) => annotation.uint_value = Some(number),
                    Detail::Address(address) => annotation.pointer_value = Some(address),
                    Detail::True => annotation.bool_value = Some(true),
                }
                annotation
            })
            .collect()
    }
}

/// The interned data of the sequence, numbered as they come.
#[derive(Default)]
struct Interned<'a> {
    categories: Table<&'static str>,
    names: Table<String>,
    details: Table<&'static str>,
    texts: Table<&'a str>,
    functions: Table<&'a str>,
    files: Table<&'a str>,
    frames: FxHashMap<&'a Function, u64>,
    callstacks: FxHashMap<usize, u64>,
    /// What no packet has brought yet.
    new_frames: Vec<Frame>,
    new_callstacks: Vec<Callstack>,
}

impl<'a> Interned<'a> {
    fn callstack(&mut self, place: usize, functions: &'a [Function]) -> u64 {
        let next = self.callstacks.len() as u64 + 1;
        let iid = *self.callstacks.entry(place).or_insert(next);
        if iid == next {
            let frame_ids = functions.iter().rev().map(|function| self.frame(function)).collect();
            self.new_callstacks.push(Callstack { iid: Some(iid), frame_ids });
        }
        iid
    }

    fn frame(&mut self, function: &'a Function) -> u64 {
        let next = self.frames.len() as u64 + 1;
        let iid = *self.frames.entry(function).or_insert(next);
        if iid == next {
            self.new_frames.push(Frame {
                iid: Some(iid),
                function_name_id: Some(self.functions.id(&function.name)),
                mapping_id: Some(self.files.id(&function.file)),
            });
        }
        iid
    }

    /// What came since the last packet, if anything did.
    fn take_new(&mut self) -> Option<InternedData> {
        let name = |(iid, name): (u64, String)| InternedName { iid: Some(iid), name: Some(name) };
        let string = |(iid, text): (u64, String)| InternedString {
            iid: Some(iid),
            str: Some(text.into_bytes()),
        };
        let files = self.files.take_new();
        // Nothing but frames refers to a file, and nothing else has its path: one number does for both.
        let mapping =
            |(iid, _): &(u64, String)| Mapping { iid: Some(*iid), path_string_ids: vec![*iid] };
        let data = InternedData {
            event_categories: self.categories.take_new().into_iter().map(name).collect(),
            event_names: self.names.take_new().into_iter().map(name).collect(),
            debug_annotation_names: self.details.take_new().into_iter().map(name).collect(),
            debug_annotation_string_values: self.texts.take_new().into_iter().map(string).collect(),
            function_names: self.functions.take_new().into_iter().map(string).collect(),
            mappings: files.iter().map(mapping).collect(),
            mapping_paths: files.into_iter().map(string).collect(),
            frames: std::mem::take(&mut self.new_frames),
            callstacks: std::mem::take(&mut self.new_callstacks),
        };
        (data != InternedData::default()).then_some(data)
    }
}

/// Values by number, from 1 on: 0 is none.
struct Table<T> {
    ids: FxHashMap<T, u64>,
    new: Vec<(u64, T)>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: FxHashMap::default(), new: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn id(&mut self, value: T) -> u64 {
        let next = self.ids.len() as u64 + 1;
        *self.ids.entry(value).or_insert_with_key(|value| {
            self.new.push((next, value.clone()));
            next
        })
    }
}

impl<T: ToString> Table<T> {
    fn take_new(&mut self) -> Vec<(u64, String)> {
        let new = std::mem::take(&mut self.new);
        new.into_iter().map(|(id, value)| (id, value.to_string())).collect()
    }
}
