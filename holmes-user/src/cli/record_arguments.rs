//! What `record` is asked for, as typed.
//!
//! Must not: judge what does not fit together; `cli` does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::arguments::{WatchArguments, path, ring_bytes, unwind_rows};
use super::values;
use crate::settings::{RecordEvent, RecordFormat};

#[derive(Debug, Args)]
pub(super) struct RecordArguments {
    #[command(flatten)]
    pub watch: WatchArguments,
    /// How long
    #[arg(short, long, default_value = "30s",
        value_parser = |text: &str| values::RECORD_DURATION.parse(text))]
    pub duration: Duration,
    /// Samples per second and CPU, 1 to 1000
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = super::layer::FREQUENCY,
        value_parser = |text: &str| values::FREQUENCY.parse(text))]
    pub frequency: u32,
    /// What to show of the target
    #[arg(short, long, default_value = "cpu", conflicts_with = "allocations")]
    pub event: Event,
    /// Where to: FILE.pb.gz, FILE.folded, FILE.perfetto-trace or FILE.json (both also with .gz), or -
    /// for standard output [default: holmes-<time>.pb.gz in this folder]
    #[arg(short, long, value_name = "FILE", value_parser = path)]
    pub output: Option<PathBuf>,
    /// The format, whatever the file is called [default: by its ending]. A timeline (perfetto, chrome)
    /// has what runs and what waits, whatever -e says
    #[arg(long)]
    pub format: Option<Format>,
    /// Look for separate debug files here (repeatable) [default: /usr/lib/debug]
    #[arg(long, value_name = "DIR", value_parser = path)]
    pub debug_dir: Vec<PathBuf>,
    /// Size of the ring buffer, rounded up to a power of two [default: 4MiB]
    #[arg(long, value_name = "SIZE", value_parser = ring_bytes)]
    pub ring_bytes: Option<u32>,
    /// Room in the kernel for unwind tables [default: 32MiB]
    #[arg(long = "unwind-bytes", value_name = "SIZE", value_parser = unwind_rows)]
    pub unwind_rows: Option<u32>,
    /// Record what one process (-p) allocates and does not give back, in place of CPU samples
    ///
    /// Its calls of malloc, free and the like are slowed by microseconds each while this runs. A
    /// text output (folded) shows the bytes in use.
    #[arg(long, conflicts_with_all = ["frequency", "stack_copies"])]
    pub allocations: bool,
    /// Bytes allocated for each sample, 1B to 1GiB; what is as large is always one
    #[arg(long, value_name = "SIZE", requires = "allocations", default_value = "512KiB",
        value_parser = |text: &str| values::ALLOCATION_INTERVAL.parse(text))]
    pub allocation_interval: u64,
    /// Copy the memory of each sampled stack to this file, to check the unwinder against another:
    /// a line of JSON for each. It holds whatever the process has on its stacks
    #[arg(long, value_name = "FILE", hide = true, value_parser = path)]
    pub stack_copies: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Event {
    /// Where its threads are on the CPU
    Cpu,
    /// Where they wait, for what and how long, as far as they left the CPU in this time
    Blocked,
}

impl From<Event> for RecordEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Cpu => Self::Cpu,
            Event::Blocked => Self::Blocked,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// gzip-compressed pprof, for go tool pprof, Pyroscope, Parca, Perfetto
    Pprof,
    /// Text, one stack a line, root first, count last, for flame graphs
    Folded,
    /// A timeline, what each thread ran, waited for and when, for ui.perfetto.dev
    Perfetto,
    /// The same as JSON, for chrome://tracing, Speedscope and ui.perfetto.dev
    Chrome,
}

impl From<Format> for RecordFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Pprof => Self::Pprof,
            Format::Folded => Self::Folded,
            Format::Perfetto => Self::Perfetto,
            Format::Chrome => Self::Chrome,
        }
    }
}
