//! The messages of the pprof format, version 1, as `proto/profile.proto` of
//! github.com/google/pprof describes them. Fields of type `i64` that end in "index into the string
//! table" there are plain numbers here; 0 is the empty string.

/// A profile: samples, and the tables they refer to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What the values of a sample mean, in order.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Address ranges and the files mapped there; the first is the main program.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Regular expression of frames to leave out, a string.
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// Regular expression of frames to keep in spite of that, a string.
    #[prost(int64, tag = "8")]
    pub keep_frames: i64,
    /// When the profile begins, in nanoseconds since 1970 UTC.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it lasted, in nanoseconds.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What `period` counts.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Events between two samples.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text, strings.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The sample type to show first, a string.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
    /// A page about this profile, a string.
    #[prost(int64, tag = "15")]
    pub doc_url: i64,
}

/// Type and unit of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ValueType {
    /// Type, a string.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Unit, a string.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// Values of one stack.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Ids of locations, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What else is known of it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A string or a number by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Label {
    /// The name, a string.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The string; 0 for a number.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// The number; 0 for a string.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// The number's unit, a string.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// A mapped file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Mapping {
    /// Not zero, and unique.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// The address behind the last.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Offset in the file of the first address, in bytes.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// The file's path, a string.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Build id in hexadecimal, a string.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Its locations have functions.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Their functions have file names.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Their lines have numbers.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Inlined functions are listed.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A place in code.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Not zero, and unique.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The mapping's id, or 0.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Functions, the innermost inlined one first; the last is the one that is really called.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
    /// Several functions of the same code share it.
    #[prost(bool, tag = "5")]
    pub is_folded: bool,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Line {
    /// The function's id.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Line in the source file; 0 is unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
    /// Column; 0 is unknown.
    #[prost(int64, tag = "3")]
    pub column: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Function {
    /// Not zero, and unique.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Readable name, a string.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Name as the system has it, a string.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Source file, a string.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// First line; 0 is unknown.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
