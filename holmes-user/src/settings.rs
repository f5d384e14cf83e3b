//! What the command line and the configuration file say, validated: all that `cli` hands to
//! `pipeline`.
//!
//! Must not: parse text or hold running state.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::rules::RuleSet;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The whole host.
    Host,
    /// These cgroups (as the user wrote them) and their descendants.
    Cgroups(Vec<PathBuf>),
    /// These processes.
    Processes(Vec<u32>),
}

/// What stays of old incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// All incidents together, in bytes.
    pub max_bytes: u64,
    /// The oldest.
    pub max_age: Duration,
}

/// The part of the settings that SIGHUP reloads.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunables {
    /// How often signals are read.
    pub interval: Duration,
    /// How long before the trigger an incident begins.
    pub lookback: Duration,
    /// How long after the trigger it ends.
    pub after: Duration,
    /// What stays of old incidents.
    pub retention: Retention,
    /// The rules.
    pub rules: RuleSet,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            lookback: Duration::from_secs(60),
            after: Duration::from_secs(10),
            retention: Retention {
                max_bytes: 2 << 30,
                max_age: Duration::from_secs(14 * 24 * 3600),
            },
            rules: RuleSet::default(),
        }
    }
}

/// What the probes need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// What to watch.
    pub watch: Watch,
    /// Samples per second and CPU.
    pub frequency: u32,
    /// Size of the ring buffer in bytes, a power of two.
    pub ring_bytes: u32,
    /// Whether the probes' own diagnostics are switched on.
    pub probe_log: bool,
}

/// The bounds of the look-back window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// How far back it reaches.
    pub span: Duration,
    /// Memory of its stacks and buckets, in bytes.
    pub max_bytes: usize,
    /// Distinct stacks it holds at most.
    pub max_stacks: usize,
}

impl Default for WindowSettings {
    fn default() -> Self {
        Self { span: Duration::from_secs(120), max_bytes: 64 << 20, max_stacks: 1 << 17 }
    }
}

/// Settings of the recorder.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderSettings {
    /// For the probes.
    pub probes: ProbeSettings,
    /// For the window.
    pub window: WindowSettings,
    /// What SIGHUP reloads.
    pub tunables: Tunables,
    /// Where incidents go.
    pub dump_dir: PathBuf,
    /// Where `/metrics` is served; `None` switches it off.
    pub listen: Option<SocketAddr>,
    /// Where the recorder's input is written for `replay`.
    pub record_input: Option<PathBuf>,
    /// Whether the person at the terminal wants to hear nothing but errors.
    pub quiet: bool,
}

/// Settings of `record`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSettings {
    /// For the probes.
    pub probes: ProbeSettings,
    /// How long.
    pub duration: Duration,
    /// Where to; `-` is standard output.
    pub output: PathBuf,
    /// In which format.
    pub format: RecordFormat,
    /// No progress.
    pub quiet: bool,
}

/// The formats of `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// gzip-compressed pprof.
    Pprof,
    /// Folded stacks: root first, count last.
    Folded,
}

/// Settings of `replay`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaySettings {
    /// The recording.
    pub input: PathBuf,
    /// Where incidents go.
    pub dump_dir: PathBuf,
    /// Rules and times to use instead of the recorded ones.
    pub tunables: Option<Tunables>,
    /// No progress.
    pub quiet: bool,
}
