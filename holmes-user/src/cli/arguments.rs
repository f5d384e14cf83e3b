//! The flags, as they are typed. Their texts are the help.
//!
//! Must not: combine flags with the file or with each other beyond what clap checks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::goroutines::{self, GoroutineArguments};
use super::layer::Layer;
use super::record_arguments::RecordArguments;
use super::rule_text;
use super::values;
use crate::kernel::OptionalProbe;
use crate::settings::{RuleEdit, Watch};

const EXAMPLES: &str = "\
Examples:
  sudo holmes-ebpf                                  watch the whole host
  sudo holmes-ebpf --cgroup /system.slice/app.service --rule cpu=abs:90,cooldown:5m
  sudo holmes-ebpf record -p 4711 -d 10s -o out.pb.gz
  go tool pprof -http : -base cpu.base.pb.gz cpu.pb.gz    what ran since the onset
  sudo holmes-ebpf check                            what this host allows";

const RECORD_EXAMPLES: &str = "\
Examples:
  sudo holmes-ebpf record -d 10s -o out.pb.gz && go tool pprof -top out.pb.gz
  sudo holmes-ebpf record -p 4711 -o - --format folded | flamegraph.pl > out.svg
  sudo holmes-ebpf record -p 4711 -d 10s -o out.perfetto-trace    for ui.perfetto.dev
  sudo holmes-ebpf record -p 4711 --allocations -d 30s -o heap.pb.gz";

const FILE_HELP: &str = "\
Configuration file (TOML, --config; SIGHUP reads it again; the command line wins over it):
  interval = \"5s\"
  lookback = \"60s\"
  after = \"10s\"
  dump_dir = \"/var/lib/holmes\"
  retention = { max_bytes = \"2GiB\", max_age = \"14d\" }
  cpu_max = 0                      # percent, 0 is off
  max_incidents_per_hour = 30
  [rules.cpu]                      # also memory, threads, goroutines
  min = 10
  diff = 25
  abs = 80
  max = 0
  cooldown = \"1m\"
  [rules.leak]
  rate = \"1MiB/m\"
  for = \"10m\"
  within = \"6h\"                    # 0 is off: also what has no limit
  cooldown = \"1h\"
  [rules.psi]
  stall = \"300ms\"
  window = \"2s\"
  min = 50
  cooldown = \"10m\"
Also: cgroup, pid, all, listen, frequency, window, window_bytes, window_stacks, ring_bytes,
unwind_bytes, memory_interval, without, debug_dirs, debuginfod, debug_cache.

Signals: SIGHUP reloads, SIGUSR1 cuts an incident now, SIGTERM or Ctrl-C finishes and leaves.
Exit codes: 0 good, 1 failure, 2 usage.";

/// A flight recorder for production incidents.
///
/// Samples every process from the kernel, keeps the last minutes in memory, and when a cgroup's
/// CPU, memory or threads spike or its memory leaks, writes the profiles of the time before, during and after.
#[derive(Debug, Parser)]
#[command(
    name = "holmes-ebpf",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{FILE_HELP}")
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub recorder: RecorderArguments,
    #[command(subcommand)]
    pub command: Option<SubArguments>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SubArguments {
    /// Record one window of CPU samples, of waits, of both as a timeline, or of allocations, to a file
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArguments),
    /// Show the goroutines of a running Go process, or its own heap profile, without stopping it
    #[command(after_help = goroutines::EXAMPLES)]
    Goroutines(GoroutineArguments),
    /// Run a recording (--record-input) through the rules again; needs no root
    Replay(ReplayArguments),
    /// Say what this kernel and these capabilities allow, and what to change
    Check(CheckArguments),
    /// The recorder's own: names addresses in a process without rights
    #[command(name = "symbolize-worker", hide = true)]
    SymbolizeWorker,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to watch: nothing is the whole host.
#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    /// Watch this cgroup and its descendants; absolute or relative to the cgroup mount (repeatable)
    #[arg(long, value_name = "PATH", value_parser = cgroup)]
    pub cgroup: Vec<PathBuf>,
    /// Watch this process (repeatable)
    #[arg(short, long, conflicts_with = "cgroup",
        value_parser = |text: &str| values::PID.parse(text))]
    pub pid: Vec<u32>,
    /// Watch the whole host [the default]
    #[arg(short, long, conflicts_with_all = ["cgroup", "pid"])]
    pub all: bool,
}

impl WatchArguments {
    /// The target, if one was named.
    pub(super) fn watch(&self) -> Option<Watch> {
        if self.all {
            Some(Watch::Host)
        } else if !self.cgroup.is_empty() {
            Some(Watch::Cgroups(self.cgroup.clone()))
        } else if !self.pid.is_empty() {
            Some(Watch::Processes(self.pid.clone()))
        } else {
            None
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct RecorderArguments {
    #[command(flatten)]
    pub watch: WatchArguments,

    /// Read this configuration file; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// SIGNAL=min:10,diff:25,abs:80,max:0,cooldown:1m, or SIGNAL=off (repeatable)
    ///
    /// SIGNAL is cpu or memory (percent of the target's limit), or threads or goroutines (numbers). A
    /// value at or above `max` never fires; one above `abs` does, and one above `min` that is `diff`
    /// percent above the average of the previous ten. 0 switches diff, abs or max off; parts that
    /// are not named keep their value. Defaults: cpu and memory min:10,diff:25,abs:80,cooldown:1m;
    /// threads min:200,diff:25,abs:10000,cooldown:10m; goroutines min:3000,diff:20,abs:200000,cooldown:10m.
    ///
    /// leak=rate:1MiB/m,for:10m,within:6h,cooldown:1h (the default) fires when memory that the
    /// kernel cannot take back grows faster than `rate` all through `for`, and would reach the
    /// nearest limit within that time. within:0 asks for no limit.
    ///
    /// psi=stall:300ms,window:2s,min:50,cooldown:10m (the default) cuts a memory incident when tasks
    /// wait for memory for `stall` in a `window`, on the host or in a cgroup with a limit; or when a
    /// cgroup (v2) reaches memory.high or memory.max and `min` percent of it cannot be taken back.
    #[arg(long, value_name = "RULE", value_parser = rule_text::parse)]
    pub rule: Vec<RuleEdit>,
    /// Capture nothing while the host's CPU use is above this percentage; 0 is off [default: 0]
    #[arg(long, value_name = "PERCENT",
        value_parser = |text: &str| values::CPU_MAX.parse(text))]
    pub cpu_max: Option<f64>,
    /// Incidents in any hour, over all rules and targets [default: 30]
    #[arg(long, value_name = "N",
        value_parser = |text: &str| values::INCIDENTS_PER_HOUR.parse(text))]
    pub max_incidents_per_hour: Option<u32>,
    /// How often CPU, memory and threads are read, at least 100ms [default: 5s]
    #[arg(long, value_name = "DURATION",
        value_parser = |text: &str| values::INTERVAL.parse(text))]
    pub interval: Option<Duration>,
    /// How long before the trigger an incident begins [default: 60s]
    #[arg(long, value_name = "DURATION",
        value_parser = |text: &str| values::INCIDENT_PART.parse(text))]
    pub lookback: Option<Duration>,
    /// How long after the trigger it ends [default: 10s]
    #[arg(long, value_name = "DURATION",
        value_parser = |text: &str| values::INCIDENT_PART.parse(text))]
    pub after: Option<Duration>,
    /// Where incidents go [default: /var/lib/holmes]
    #[arg(long, value_name = "DIR", value_parser = path)]
    pub dump_dir: Option<PathBuf>,
    /// All incidents together; the oldest go first [default: 2GiB]
    #[arg(long, value_name = "SIZE", hide_short_help = true,
        value_parser = |text: &str| values::RETENTION_BYTES.parse(text))]
    pub retention_bytes: Option<u64>,
    /// Incidents older than this go [default: 14d]
    #[arg(long, value_name = "DURATION", hide_short_help = true,
        value_parser = |text: &str| values::RETENTION_AGE.parse(text))]
    pub retention_age: Option<Duration>,
    /// Where /metrics and POST /trigger are served, or off [default: 127.0.0.1:8731]
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    pub listen: Option<Listen>,
    /// Samples per second and CPU, 1 to 1000 [default: 49]
    #[arg(short = 'F', long, value_name = "HZ",
        value_parser = |text: &str| values::FREQUENCY.parse(text))]
    pub frequency: Option<u32>,
    /// How far back samples are kept [default: 120s, or lookback and after if that is longer]
    #[arg(long, value_name = "DURATION", hide_short_help = true,
        value_parser = |text: &str| values::WINDOW.parse(text))]
    pub window: Option<Duration>,
    /// Memory of the kept samples [default: 64MiB]
    #[arg(long, value_name = "SIZE", hide_short_help = true,
        value_parser = |text: &str| values::WINDOW_BYTES.parse(text))]
    pub window_bytes: Option<u64>,
    /// Distinct stacks that are kept [default: 131072]
    #[arg(long, value_name = "N", hide_short_help = true,
        value_parser = |text: &str| values::WINDOW_STACKS.parse(text))]
    pub window_stacks: Option<u32>,
    /// Size of the ring buffer, rounded up to a power of two [default: 4MiB]
    #[arg(long, value_name = "SIZE", hide_short_help = true, value_parser = ring_bytes)]
    pub ring_bytes: Option<u32>,
    /// Room in the kernel for unwind tables, kept from the start [default: 32MiB]
    #[arg(long = "unwind-bytes", value_name = "SIZE", hide_short_help = true,
        value_parser = unwind_rows)]
    pub unwind_rows: Option<u32>,
    /// Touched memory between two samples of the memory profile [default: 512KiB]
    #[arg(long, value_name = "SIZE", hide_short_help = true,
        value_parser = |text: &str| values::MEMORY_INTERVAL.parse(text))]
    pub memory_interval: Option<u64>,
    /// Leave out a probe, for what it costs: threads, memory (calls), faults, oom or waits
    /// (repeatable)
    #[arg(long, value_name = "PROBE", hide_short_help = true, value_parser = values::probe)]
    pub without: Vec<OptionalProbe>,
    /// Look for separate debug files here, by build-id and .gnu_debuglink (repeatable) [default:
    /// /usr/lib/debug]
    #[arg(long, value_name = "DIR", hide_short_help = true, value_parser = path)]
    pub debug_dir: Vec<PathBuf>,
    /// Fetch missing debug files from this debuginfod server, http:// or https://
    ///
    /// It is told the build-ids of what the watched processes run. An incident does not wait for
    /// it: what was fetched serves the next one. DEBUGINFOD_URLS is not read.
    #[arg(long, value_name = "URL", hide_short_help = true, value_parser = values::debuginfod)]
    pub debuginfod: Option<String>,
    /// Where fetched debug files are kept, at most 2 GiB [default: /var/cache/holmes]
    #[arg(long, value_name = "DIR", hide_short_help = true, value_parser = path)]
    pub debug_cache: Option<PathBuf>,
    /// Write the recorder's input to this file, at most 4 GiB, for `replay`
    #[arg(long, value_name = "FILE", hide_short_help = true, value_parser = path)]
    pub record_input: Option<PathBuf>,
    /// Log the probes' own diagnostics
    #[arg(long, hide_short_help = true)]
    pub probe_log: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

impl RecorderArguments {
    /// What the command line says.
    pub(super) fn layer(&self) -> Layer {
        Layer {
            watch: self.watch.watch(),
            interval: self.interval,
            lookback: self.lookback,
            after: self.after,
            dump_dir: self.dump_dir.clone(),
            retention_bytes: self.retention_bytes,
            retention_age: self.retention_age,
            listen: self.listen.map(|Listen(address)| address),
            frequency: self.frequency,
            window: self.window,
            window_bytes: self.window_bytes,
            window_stacks: self.window_stacks,
            ring_bytes: self.ring_bytes,
            unwind_rows: self.unwind_rows,
            memory_interval: self.memory_interval,
            without: (!self.without.is_empty()).then(|| self.without.clone()),
            cpu_max: self.cpu_max,
            max_incidents_per_hour: self.max_incidents_per_hour,
            debug_dirs: (!self.debug_dir.is_empty()).then(|| self.debug_dir.clone()),
            debuginfod: self.debuginfod.clone(),
            debug_cache: self.debug_cache.clone(),
            rules: self.rule.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// The recording
    pub file: PathBuf,
    /// Where incidents go; the default is this folder
    #[arg(long, value_name = "DIR", default_value = ".", value_parser = path)]
    pub dump_dir: PathBuf,
    /// Change a recorded rule first: SIGNAL=min:10,abs:80 or SIGNAL=off (repeatable)
    #[arg(long, value_name = "RULE", value_parser = rule_text::parse)]
    pub rule: Vec<RuleEdit>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Where incidents would go
    #[arg(long, value_name = "DIR", default_value = super::layer::DUMP_DIR, value_parser = path)]
    pub dump_dir: PathBuf,
}

/// An address or off: a type of its own, because clap reads `Option<Option<_>>` as a flag whose
/// value may be missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub Option<SocketAddr>);

fn listen(text: &str) -> Result<Listen, String> {
    values::listen(text).map(Listen)
}

pub(super) fn unwind_rows(text: &str) -> Result<u32, String> {
    values::UNWIND_BYTES.parse(text).and_then(values::unwind_rows)
}

pub(super) fn ring_bytes(text: &str) -> Result<u32, String> {
    values::RING_BYTES.parse(text).and_then(values::ring_bytes)
}

fn cgroup(text: &str) -> Result<PathBuf, String> {
    path(text)
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty: give a path".to_owned());
    }
    Ok(PathBuf::from(text))
}
