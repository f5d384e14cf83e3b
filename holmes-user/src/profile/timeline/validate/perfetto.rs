//! The rules of Perfetto's format, packet by packet.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Rule, Violation, Violations};
use crate::profile::timeline::proto::{
    DebugAnnotation, InternedData, TracePacket, TrackDescriptor, TrackEvent, event_type,
    sequence_flag,
};

/// A kind of interned data: each has numbers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Category,
    EventName,
    AnnotationName,
    Text,
    Function,
    Path,
    Mapping,
    Frame,
    Callstack,
}

/// What is on a track.
#[derive(Default)]
struct Track {
    /// The time of the last event.
    reached: u64,
    /// When the slice began that is open.
    open: Option<u64>,
}

/// Checks the packets of a trace of one sequence, one after the other.
#[derive(Default)]
pub struct PerfettoChecker {
    violations: Violations,
    sequence: Option<u32>,
    has_clock: bool,
    interned: FxHashSet<(Kind, u64)>,
    tracks: FxHashMap<u64, Track>,
}

impl PerfettoChecker {
    /// The next packet.
    pub fn packet(&mut self, packet: &TracePacket) {
        let sequence = packet.trusted_packet_sequence_id.filter(|id| *id != 0);
        let flags = packet.sequence_flags.unwrap_or(0);
        match self.sequence {
            None => {
                let begins = sequence.is_some() && flags & sequence_flag::CLEARED != 0;
                self.require(begins, Rule::Sequence);
                self.sequence = sequence;
            }
            Some(known) => {
                let goes_on = sequence == Some(known) && flags == sequence_flag::NEEDS_STATE;
                self.require(goes_on, Rule::Sequence);
            }
        }
        if let Some(snapshot) = &packet.clock_snapshot {
            let default = packet.trace_packet_defaults.and_then(|it| it.timestamp_clock_id);
            let primary = snapshot.primary_trace_clock;
            let mut clocks = snapshot.clocks.iter();
            let says = clocks.any(|clock| clock.clock_id == primary && clock.timestamp.is_some());
            self.has_clock = says && primary.is_some() && default == primary;
        }
        self.require(self.has_clock && packet.timestamp.is_some(), Rule::Clock);
        if let Some(data) = &packet.interned_data {
            self.intern(data);
        }
        if let Some(track) = &packet.track_descriptor {
            self.track(track);
        }
        let time = packet.timestamp.unwrap_or(0);
        if let Some(event) = &packet.track_event {
            self.event(event, time);
        }
        if let Some(sample) = &packet.perf_sample {
            let has_ids = sample.pid.is_some() && sample.tid.is_some() && sample.cpu.is_some();
            self.require(has_ids && sample.cpu_mode.is_some(), Rule::Named);
            self.known(Kind::Callstack, sample.callstack_iid);
        }
        self.violations.at += 1;
    }

    /// The violations: what has begun must have ended by now.
    pub fn finish(mut self) -> Vec<Violation> {
        let open = self.tracks.values().filter(|track| track.open.is_some()).count();
        self.require(open == 0, Rule::Balance);
        self.violations.list
    }

    fn require(&mut self, holds: bool, rule: Rule) {
        self.violations.require(holds, rule);
    }

    fn known(&mut self, kind: Kind, iid: Option<u64>) {
        let known = iid.is_some_and(|iid| self.interned.contains(&(kind, iid)));
        self.require(known, Rule::Interned);
    }

    fn add(&mut self, kind: Kind, iid: Option<u64>, is_whole: bool) {
        let is_new = iid.is_some_and(|iid| iid != 0 && self.interned.insert((kind, iid)));
        self.require(is_new, Rule::InternedTwice);
        self.require(is_whole, Rule::Interned);
    }

    fn intern(&mut self, data: &InternedData) {
        let names = [
            (Kind::Category, &data.event_categories),
            (Kind::EventName, &data.event_names),
            (Kind::AnnotationName, &data.debug_annotation_names),
        ];
        for (kind, list) in names {
            for entry in list {
                let is_named = entry.name.as_ref().is_some_and(|name| !name.is_empty());
                self.add(kind, entry.iid, is_named);
            }
        }
        let texts = [
            (Kind::Text, &data.debug_annotation_string_values),
            (Kind::Function, &data.function_names),
            (Kind::Path, &data.mapping_paths),
        ];
        for (kind, list) in texts {
            for entry in list {
                self.add(kind, entry.iid, entry.str.is_some());
            }
        }
        for mapping in &data.mappings {
            self.add(Kind::Mapping, mapping.iid, true);
            mapping.path_string_ids.iter().for_each(|id| self.known(Kind::Path, Some(*id)));
        }
        for frame in &data.frames {
            self.add(Kind::Frame, frame.iid, true);
            self.known(Kind::Function, frame.function_name_id);
            self.known(Kind::Mapping, frame.mapping_id);
        }
        for callstack in &data.callstacks {
            self.add(Kind::Callstack, callstack.iid, !callstack.frame_ids.is_empty());
            callstack.frame_ids.iter().for_each(|id| self.known(Kind::Frame, Some(*id)));
        }
    }

    fn track(&mut self, track: &TrackDescriptor) {
        if let Some(parent) = track.parent_uuid {
            self.require(self.tracks.contains_key(&parent), Rule::Track);
        }
        let id = track.uuid.filter(|uuid| *uuid != 0);
        self.require(id.is_some_and(|id| !self.tracks.contains_key(&id)), Rule::TrackId);
        self.tracks.entry(id.unwrap_or(0)).or_default();
        let is_named = match (&track.process, &track.thread) {
            (Some(process), None) => process.pid.is_some() && process.process_name.is_some(),
            (None, Some(thread)) => {
                thread.pid.is_some() && thread.tid.is_some() && thread.thread_name.is_some()
            }
            (None, None) => track.name.is_some(),
            (Some(_), Some(_)) => false,
        };
        self.require(is_named, Rule::Named);
    }

    fn event(&mut self, event: &TrackEvent, time: u64) {
        event.category_iids.iter().for_each(|id| self.known(Kind::Category, Some(*id)));
        event.debug_annotations.iter().for_each(|annotation| self.annotation(annotation));
        if event.callstack_iid.is_some() {
            self.known(Kind::Callstack, event.callstack_iid);
        }
        if event.r#type != Some(event_type::SLICE_END) {
            self.known(Kind::EventName, event.name_iid);
        }
        let track = event.track_uuid.and_then(|uuid| self.tracks.get_mut(&uuid));
        let Some(track) = track else { return self.require(false, Rule::Track) };
        let in_order = time >= track.reached;
        track.reached = time;
        let balanced = match event.r#type {
            Some(event_type::SLICE_BEGIN) => track.open.replace(time).is_none(),
            Some(event_type::SLICE_END) => track.open.take().is_some_and(|begin| begin < time),
            Some(event_type::INSTANT) => true,
            _ => return self.require(false, Rule::Event),
        };
        self.require(in_order, Rule::Order);
        self.require(balanced, Rule::Balance);
    }

    fn annotation(&mut self, annotation: &DebugAnnotation) {
        self.known(Kind::AnnotationName, annotation.name_iid);
        if annotation.string_value_iid.is_some() {
            self.known(Kind::Text, annotation.string_value_iid);
        }
    }
}
