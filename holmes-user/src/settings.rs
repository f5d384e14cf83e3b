//! What the command line and the configuration file say, validated: all that `cli` hands to
//! `pipeline`.
//!
//! Must not: parse text or hold running state.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::OptionalProbe;
use crate::rules::{LeakRule, PsiRule, Rule, RuleSet};
use crate::signals::Signal;

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

/// One change of a signal's rule, as `--rule` or the configuration file asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RuleEdit {
    /// Whose rule.
    pub signal: Signal,
    /// What becomes of it.
    pub change: RuleChange,
}

/// What becomes of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleChange {
    /// The signal is not watched.
    Off,
    /// These numbers are replaced, the others stay. A rule that was off starts from its defaults.
    Set {
        /// New [`Rule::min`].
        min: Option<f64>,
        /// New [`Rule::diff`].
        diff: Option<f64>,
        /// New [`Rule::abs`].
        abs: Option<f64>,
        /// New [`Rule::max`].
        max: Option<f64>,
        /// New [`Rule::cooldown`].
        cooldown: Option<Duration>,
    },
    /// The same of the rule for leaks.
    SetLeak {
        /// New [`LeakRule::rate`].
        rate: Option<f64>,
        /// New [`LeakRule::span`].
        span: Option<Duration>,
        /// New [`LeakRule::within`].
        within: Option<Duration>,
        /// New [`LeakRule::cooldown`].
        cooldown: Option<Duration>,
    },
    /// The same of the rule for early warnings.
    SetPsi {
        /// New [`PsiRule::stall`].
        stall: Option<Duration>,
        /// New [`PsiRule::window`].
        window: Option<Duration>,
        /// New [`PsiRule::min`].
        min: Option<f64>,
        /// New [`PsiRule::cooldown`].
        cooldown: Option<Duration>,
    },
}

impl RuleEdit {
    /// Applies the change to `rules`.
    pub fn apply(&self, rules: &mut RuleSet) {
        let defaults = RuleSet::default();
        match self.change {
            RuleChange::Off => match self.signal {
                Signal::Cpu => rules.cpu = None,
                Signal::Memory => rules.memory = None,
                Signal::Threads => rules.threads = None,
                Signal::Goroutines => rules.goroutines = None,
                Signal::Leak => rules.leak = None,
                Signal::Psi => rules.psi = None,
            },
            RuleChange::Set { min, diff, abs, max, cooldown } => {
                let (rule, default) = match self.signal {
                    Signal::Cpu => (&mut rules.cpu, defaults.cpu),
                    Signal::Memory => (&mut rules.memory, defaults.memory),
                    Signal::Threads => (&mut rules.threads, defaults.threads),
                    Signal::Goroutines => (&mut rules.goroutines, defaults.goroutines),
                    // Their rules have other parts, and changes of their own.
                    Signal::Leak | Signal::Psi => return,
                };
                *rule = rule.or(default).map(|old| Rule {
                    min: min.unwrap_or(old.min),
                    diff: diff.unwrap_or(old.diff),
                    abs: abs.unwrap_or(old.abs),
                    max: max.unwrap_or(old.max),
                    cooldown: cooldown.unwrap_or(old.cooldown),
                });
            }
            RuleChange::SetLeak { rate, span, within, cooldown } => {
                rules.leak = rules.leak.or(defaults.leak).map(|old| LeakRule {
                    rate: rate.unwrap_or(old.rate),
                    span: span.unwrap_or(old.span),
                    within: within.unwrap_or(old.within),
                    cooldown: cooldown.unwrap_or(old.cooldown),
                });
            }
            RuleChange::SetPsi { stall, window, min, cooldown } => {
                rules.psi = rules.psi.or(defaults.psi).map(|old| PsiRule {
                    stall: stall.unwrap_or(old.stall),
                    window: window.unwrap_or(old.window),
                    min: min.unwrap_or(old.min),
                    cooldown: cooldown.unwrap_or(old.cooldown),
                });
            }
        }
    }
}

/// What a reload found.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// What takes effect now.
    pub tunables: Tunables,
    /// Keys whose value changed in the file, and which only a restart can change.
    pub needs_restart: Vec<&'static str>,
}

/// Reads the configuration again; the error is ready for the log.
type Reread = dyn Fn() -> Result<Reloaded, String> + Send + Sync;

/// How SIGHUP gets at the configuration file, without `pipeline` knowing how one is read.
#[derive(Clone)]
pub struct Reload {
    file: PathBuf,
    reread: Arc<Reread>,
}

impl Reload {
    /// A reload of `file` by `reread`.
    pub fn new(
        file: PathBuf,
        reread: impl Fn() -> Result<Reloaded, String> + Send + Sync + 'static,
    ) -> Self {
        Self { file, reread: Arc::new(reread) }
    }

    /// The configuration file.
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// Reads the file again, with the same precedence as at start. Blocks on the disk.
    ///
    /// # Errors
    /// A message that names the file, and each bad key with its line and what is allowed. Nothing
    /// has changed then.
    pub fn run(&self) -> Result<Reloaded, String> {
        (self.reread)()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Reload").field(&self.file).finish()
    }
}

impl PartialEq for Reload {
    /// Two reloads of one file are the same setting, whoever made them.
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
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
    /// Room for unwind tables in the kernel, in rows of 8 bytes.
    pub unwind_rows: u32,
    /// Probes that are left out.
    pub without: Vec<OptionalProbe>,
    /// Bytes of touched memory between two samples of the memory profile, on average.
    pub fault_interval: u64,
    /// Whether each sample brings a copy of its stack's memory.
    pub copy_stacks: bool,
    /// Bytes allocated for each sample, if the allocations of one process are to be recorded, and
    /// nothing else.
    pub allocation_interval: Option<u64>,
    /// Whether the probes' own diagnostics are switched on.
    pub probe_log: bool,
}

/// Where names come from beside the files themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSettings {
    /// Folders of separate debug files.
    pub debug_dirs: Vec<PathBuf>,
    /// A server of debug files, if one is to be asked.
    pub debuginfod: Option<DebuginfodSettings>,
}

impl Default for NameSettings {
    fn default() -> Self {
        Self { debug_dirs: vec![PathBuf::from("/usr/lib/debug")], debuginfod: None }
    }
}

/// A debuginfod server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebuginfodSettings {
    /// `http://` or `https://`.
    pub url: String,
    /// Where its files are kept.
    pub cache: PathBuf,
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
    /// Where names come from.
    pub names: NameSettings,
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
    /// What SIGHUP does; `None` without a configuration file.
    pub reload: Option<Reload>,
}

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
}

/// The formats of `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// gzip-compressed pprof.
    Pprof,
    /// Folded stacks: root first, count last.
    Folded,
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
