//! The settings of the commands beside the recorder itself.
//!
//! Must not: parse text or hold running state.

use std::path::PathBuf;
use std::time::Duration;

use super::{NameSettings, ProbeSettings, RuleEdit};

/// Settings of `record`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSettings {
    /// For the probes.
    pub probes: ProbeSettings,
    /// Where names come from.
    pub names: NameSettings,
    /// Of what.
    pub event: RecordEvent,
    /// How long.
    pub duration: Duration,
    /// Where to; `-` is standard output.
    pub output: PathBuf,
    /// In which format.
    pub format: RecordFormat,
    /// Where copies of the sampled stacks' memory go, if anywhere.
    pub stack_copies: Option<PathBuf>,
    /// No progress.
    pub quiet: bool,
}

/// What `record` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordEvent {
    /// Where threads are on the CPU.
    Cpu,
    /// Where they wait.
    Blocked,
    /// Both, one after the other.
    Timeline,
}

/// The formats of `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// gzip-compressed pprof.
    Pprof,
    /// Folded stacks: root first, count last.
    Folded,
    /// A timeline for ui.perfetto.dev.
    Perfetto,
    /// The same for chrome://tracing and others.
    Chrome,
}

impl RecordFormat {
    /// Whether it shows what happened one after the other, rather than sums.
    pub const fn is_timeline(self) -> bool {
        matches!(self, Self::Perfetto | Self::Chrome)
    }
}

/// Settings of `goroutines`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoroutineSettings {
    /// The process.
    pub pid: u32,
    /// Where to; `-` is standard output.
    pub output: PathBuf,
    /// In which format.
    pub format: GoroutineFormat,
    /// How long after the first look there is a second, if there is one.
    pub twice: Option<Duration>,
    /// Whether the heap profile that the program keeps of itself is read instead.
    pub heap: bool,
    /// Nothing but errors.
    pub quiet: bool,
}

/// The formats of `goroutines`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoroutineFormat {
    /// For a person.
    Text,
    /// Go's own, by stack.
    Debug1,
    /// Go's own, one by one.
    Debug2,
    /// gzip-compressed pprof.
    Pprof,
}

/// Settings of `replay`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaySettings {
    /// The recording.
    pub input: PathBuf,
    /// Where incidents go.
    pub dump_dir: PathBuf,
    /// Changes of the recorded rules, to be applied in order; empty to replay what happened.
    pub rules: Vec<RuleEdit>,
    /// No progress.
    pub quiet: bool,
}
