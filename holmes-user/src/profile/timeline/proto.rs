//! The messages of Perfetto's trace format that a timeline is made of, as `protos/perfetto/trace` of
//! github.com/google/perfetto describes them. Other fields are left out: readers skip what they do not
//! know, and so does this. Lists of numbers are not packed: it is of the second version of protocol buffers.

/// A trace.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Trace {
    /// Its packets, in any order.
    #[prost(message, repeated, tag = "1")]
    pub packet: Vec<TracePacket>,
}

/// One of its packets: in this subset one of `clock_snapshot`, `track_event`, `track_descriptor` and
/// `perf_sample`, or interned data alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TracePacket {
    /// What clocks say at the same moment.
    #[prost(message, optional, tag = "6")]
    pub clock_snapshot: Option<ClockSnapshot>,
    /// When, by the sequence's clock.
    #[prost(uint64, optional, tag = "8")]
    pub timestamp: Option<u64>,
    /// Whose interned data it refers to; not 0.
    #[prost(uint32, optional, tag = "10")]
    pub trusted_packet_sequence_id: Option<u32>,
    /// A slice's beginning or end, or an instant.
    #[prost(message, optional, tag = "11")]
    pub track_event: Option<TrackEvent>,
    /// What later packets of the sequence refer to, and this one.
    #[prost(message, optional, tag = "12")]
    pub interned_data: Option<InternedData>,
    /// Bits of [`sequence_flag`].
    #[prost(uint32, optional, tag = "13")]
    pub sequence_flags: Option<u32>,
    /// What the sequence's packets do not repeat.
    #[prost(message, optional, tag = "59")]
    pub trace_packet_defaults: Option<TracePacketDefaults>,
    /// A track.
    #[prost(message, optional, tag = "60")]
    pub track_descriptor: Option<TrackDescriptor>,
    /// A CPU sample.
    #[prost(message, optional, tag = "66")]
    pub perf_sample: Option<PerfSample>,
}

/// Bits of [`TracePacket::sequence_flags`].
pub mod sequence_flag {
    /// What the sequence has interned so far is void.
    pub const CLEARED: u32 = 1;
    /// The packet refers to interned data or defaults.
    pub const NEEDS_STATE: u32 = 2;
}

/// Numbers of clocks, `BuiltinClock`.
pub mod clock {
    /// `CLOCK_REALTIME`.
    pub const REALTIME: u32 = 1;
    /// `CLOCK_MONOTONIC`.
    pub const MONOTONIC: u32 = 3;
}

/// What clocks say at the same moment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClockSnapshot {
    /// What they say.
    #[prost(message, repeated, tag = "1")]
    pub clocks: Vec<Clock>,
    /// The one that the trace is shown by.
    #[prost(uint32, optional, tag = "2")]
    pub primary_trace_clock: Option<u32>,
}

/// What one clock says.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Clock {
    /// Of [`clock`].
    #[prost(uint32, optional, tag = "1")]
    pub clock_id: Option<u32>,
    /// In nanoseconds.
    #[prost(uint64, optional, tag = "2")]
    pub timestamp: Option<u64>,
}

/// What the sequence's packets do not repeat.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct TracePacketDefaults {
    /// The clock of their timestamps.
    #[prost(uint32, optional, tag = "58")]
    pub timestamp_clock_id: Option<u32>,
}

/// A track: of a process, of a thread, or by name alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TrackDescriptor {
    /// Unique in the trace, and not 0.
    #[prost(uint64, optional, tag = "1")]
    pub uuid: Option<u64>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// It is a process's.
    #[prost(message, optional, tag = "3")]
    pub process: Option<ProcessDescriptor>,
    /// It is a thread's.
    #[prost(message, optional, tag = "4")]
    pub thread: Option<ThreadDescriptor>,
    /// The track above it.
    #[prost(uint64, optional, tag = "5")]
    pub parent_uuid: Option<u64>,
}

/// A process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessDescriptor {
    /// Its id.
    #[prost(int32, optional, tag = "1")]
    pub pid: Option<i32>,
    /// Its name.
    #[prost(string, optional, tag = "6")]
    pub process_name: Option<String>,
}

/// A thread.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ThreadDescriptor {
    /// Its process's id.
    #[prost(int32, optional, tag = "1")]
    pub pid: Option<i32>,
    /// Its id.
    #[prost(int64, optional, tag = "2")]
    pub tid: Option<i64>,
    /// Its name.
    #[prost(string, optional, tag = "5")]
    pub thread_name: Option<String>,
}

/// A slice's beginning or end, or an instant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TrackEvent {
    /// Interned categories.
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub category_iids: Vec<u64>,
    /// What else is told of it.
    #[prost(message, repeated, tag = "4")]
    pub debug_annotations: Vec<DebugAnnotation>,
    /// Of [`event_type`].
    #[prost(uint32, optional, tag = "9")]
    pub r#type: Option<u32>,
    /// An interned name.
    #[prost(uint64, optional, tag = "10")]
    pub name_iid: Option<u64>,
    /// The track that it is on.
    #[prost(uint64, optional, tag = "11")]
    pub track_uuid: Option<u64>,
    /// An interned stack; readers since 2025 show it.
    #[prost(uint64, optional, tag = "56")]
    pub callstack_iid: Option<u64>,
}

/// Numbers of [`TrackEvent::type`].
pub mod event_type {
    /// `TYPE_SLICE_BEGIN`.
    pub const SLICE_BEGIN: u32 = 1;
    /// `TYPE_SLICE_END`.
    pub const SLICE_END: u32 = 2;
    /// `TYPE_INSTANT`.
    pub const INSTANT: u32 = 3;
}

/// Something by name, of one kind of value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DebugAnnotation {
    /// An interned name.
    #[prost(uint64, optional, tag = "1")]
    pub name_iid: Option<u64>,
    /// Yes or no.
    #[prost(bool, optional, tag = "2")]
    pub bool_value: Option<bool>,
    /// A number.
    #[prost(uint64, optional, tag = "3")]
    pub uint_value: Option<u64>,
    /// A text.
    #[prost(string, optional, tag = "6")]
    pub string_value: Option<String>,
    /// An address.
    #[prost(uint64, optional, tag = "7")]
    pub pointer_value: Option<u64>,
    /// A list.
    #[prost(message, repeated, tag = "12")]
    pub array_values: Vec<DebugAnnotation>,
    /// An interned text.
    #[prost(uint64, optional, tag = "17")]
    pub string_value_iid: Option<u64>,
}

/// A CPU sample.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PerfSample {
    /// The CPU.
    #[prost(uint32, optional, tag = "1")]
    pub cpu: Option<u32>,
    /// The process.
    #[prost(uint32, optional, tag = "2")]
    pub pid: Option<u32>,
    /// The thread.
    #[prost(uint32, optional, tag = "3")]
    pub tid: Option<u32>,
    /// An interned stack.
    #[prost(uint64, optional, tag = "4")]
    pub callstack_iid: Option<u64>,
    /// Of [`cpu_mode`].
    #[prost(uint32, optional, tag = "5")]
    pub cpu_mode: Option<u32>,
}

/// Numbers of [`PerfSample::cpu_mode`].
pub mod cpu_mode {
    /// `MODE_KERNEL`.
    pub const KERNEL: u32 = 1;
    /// `MODE_USER`.
    pub const USER: u32 = 2;
}

/// What packets of a sequence refer to by number. Each kind has numbers of its own, from 1 on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InternedData {
    /// Categories.
    #[prost(message, repeated, tag = "1")]
    pub event_categories: Vec<InternedName>,
    /// Names of slices and instants.
    #[prost(message, repeated, tag = "2")]
    pub event_names: Vec<InternedName>,
    /// Names of annotations.
    #[prost(message, repeated, tag = "3")]
    pub debug_annotation_names: Vec<InternedName>,
    /// Names of functions.
    #[prost(message, repeated, tag = "5")]
    pub function_names: Vec<InternedString>,
    /// Functions in files.
    #[prost(message, repeated, tag = "6")]
    pub frames: Vec<Frame>,
    /// Stacks.
    #[prost(message, repeated, tag = "7")]
    pub callstacks: Vec<Callstack>,
    /// Paths of files.
    #[prost(message, repeated, tag = "17")]
    pub mapping_paths: Vec<InternedString>,
    /// Files.
    #[prost(message, repeated, tag = "19")]
    pub mappings: Vec<Mapping>,
    /// Texts of annotations.
    #[prost(message, repeated, tag = "29")]
    pub debug_annotation_string_values: Vec<InternedString>,
}

/// `EventCategory`, `EventName` and `DebugAnnotationName` are the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InternedName {
    /// Its number.
    #[prost(uint64, optional, tag = "1")]
    pub iid: Option<u64>,
    /// The name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

/// A text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InternedString {
    /// Its number.
    #[prost(uint64, optional, tag = "1")]
    pub iid: Option<u64>,
    /// The text.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub str: Option<Vec<u8>>,
}

/// A function in a file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Frame {
    /// Its number.
    #[prost(uint64, optional, tag = "1")]
    pub iid: Option<u64>,
    /// Its name.
    #[prost(uint64, optional, tag = "2")]
    pub function_name_id: Option<u64>,
    /// The file.
    #[prost(uint64, optional, tag = "3")]
    pub mapping_id: Option<u64>,
}

/// A stack.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Callstack {
    /// Its number.
    #[prost(uint64, optional, tag = "1")]
    pub iid: Option<u64>,
    /// Its frames, root first.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub frame_ids: Vec<u64>,
}

/// A file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mapping {
    /// Its number.
    #[prost(uint64, optional, tag = "1")]
    pub iid: Option<u64>,
    /// The parts of its path.
    #[prost(uint64, repeated, packed = "false", tag = "7")]
    pub path_string_ids: Vec<u64>,
}
