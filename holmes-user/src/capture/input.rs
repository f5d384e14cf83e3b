//! Everything that reaches the flight recorder, in order. The same inputs make the same incidents.
//!
//! Must not: know how a recording writes them (`recording` does).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::oom::OomKill;
use crate::collect::Nanos;
use crate::process::{Attributed, LockHolder};
use crate::rules::RuleSet;
use crate::settings::{Tunables, WindowSettings};
use crate::signals::{KernelKill, MemoryReport, SignalFrame, Target, Warning};
use crate::window::{ProcessGoroutines, ProcessHeap};

/// The settings that capture needs, and that SIGHUP reloads.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureSettings {
    /// How often signals are read.
    pub interval: Duration,
    /// How long before the trigger an incident begins.
    pub lookback: Duration,
    /// How long after the trigger it ends.
    pub after: Duration,
    /// The rules.
    pub rules: RuleSet,
}

impl From<&Tunables> for CaptureSettings {
    fn from(tunables: &Tunables) -> Self {
        Self {
            interval: tunables.interval,
            lookback: tunables.lookback,
            after: tunables.after,
            rules: tunables.rules,
        }
    }
}

/// What a flight recorder starts with.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// When it starts.
    pub time: Nanos,
    /// The wall clock then, in nanoseconds since 1970 UTC.
    pub unix_ns: u64,
    /// CPU time in nanoseconds that a sample stands for.
    pub sample_period_ns: u64,
    /// Bytes of touched memory that a fault sample stands for, on average.
    pub memory_interval: u64,
    /// The window's bounds.
    pub window: WindowSettings,
    /// Rules and times.
    pub capture: CaptureSettings,
}

/// The totals of the kernel's counters (and of whoever else loses records on the way to the
/// window), by name, since the probes began.
///
/// `samples_taken` is what the probes began to take; any other `samples_*` is a cause of loss. The
/// rest, but for `*_taken`, is noted in incidents as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// When they were read.
    pub time: Nanos,
    /// The totals.
    pub totals: BTreeMap<String, u64>,
}

/// What a look at the memory of a target found: what an incident of it needs beside the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryLook {
    /// When.
    pub time: Nanos,
    /// The target.
    pub target: Target,
    /// Pages that samples had found in use and that are not in memory any more, by process.
    pub gone: Vec<(u32, Vec<u64>)>,
    /// Bytes resident of processes that have such pages: anonymous ones, and those of files and of
    /// shared memory.
    #[serde(default)]
    pub resident: Vec<(u32, [u64; 2])>,
    /// Where its memory is, if anybody asked.
    pub report: Option<MemoryReport>,
    /// Who holds the locks that its threads wait for.
    #[serde(default)]
    pub holders: Vec<LockHolder>,
    /// What the kernel's log said of victims.
    #[serde(default)]
    pub kills: Vec<KernelKill>,
}

impl MemoryLook {
    /// A look at locks alone, whoever's.
    pub fn at_locks(time: Nanos, holders: Vec<LockHolder>) -> Self {
        let (gone, resident, kills) = (Vec::new(), Vec::new(), Vec::new());
        Self { time, target: Target::Host, gone, resident, report: None, holders, kills }
    }
}

/// The goroutines of a target's Go processes, for an incident that is about them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GoroutineLook {
    /// When it was over.
    pub time: Nanos,
    /// The target.
    pub target: Target,
    /// Those with the most goroutines first.
    pub processes: Vec<ProcessGoroutines>,
}

/// The heap profiles that a target's Go programs keep of themselves, for an incident of memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GoHeapLook {
    /// When it was over.
    pub time: Nanos,
    /// The target.
    pub target: Target,
    /// Those with the most memory first; at least one.
    pub processes: Vec<ProcessHeap>,
}

/// What an incident needs to be looked at before it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookWanted {
    /// Whose memory.
    pub target: Target,
    /// Whether the pages that samples have found in use are looked for. Not after a kill: the victim's
    /// are going, and what they were is the point.
    pub residency: bool,
    /// Whether its threads that sleep are looked for, and who holds the locks that they wait for.
    pub waits: bool,
    /// Victims that the kernel's log is asked about.
    pub victims: Vec<u32>,
}

impl LookWanted {
    /// Whether anything is.
    pub(super) fn is_any(&self) -> bool {
        self.residency || self.waits || !self.victims.is_empty()
    }
}

/// One input.
#[derive(Clone, Debug)]
pub enum Input {
    /// A probe's record and whose it is.
    Observation(Attributed),
    /// The watched values.
    Signals(SignalFrame),
    /// The counters.
    Counters(Counters),
    /// The wall clock at a moment: it may have been set since the last time.
    Clock {
        /// The moment.
        monotonic: Nanos,
        /// The wall clock then, in nanoseconds since 1970 UTC.
        unix_ns: u64,
    },
    /// Somebody has looked at the memory of a target.
    Memory(MemoryLook),
    /// Somebody has looked at the goroutines of a target.
    Goroutines(GoroutineLook),
    /// Somebody has looked at the heap profiles of a target's Go programs.
    GoHeap(GoHeapLook),
    /// The kernel killed a process because memory ran out.
    OomKill(OomKill),
    /// Somebody asks for an incident now.
    Trigger {
        /// When.
        time: Nanos,
        /// Of what; the whole host if absent.
        target: Option<Target>,
    },
    /// The kernel warns that a target's memory runs short.
    Warning {
        /// When.
        time: Nanos,
        /// Whose.
        target: Target,
        /// What it said.
        what: Warning,
    },
    /// New rules and times.
    Reload(Box<CaptureSettings>),
    /// Names found for an incident. They change no decision; a replay shows them.
    Names(Names),
    /// Time passes.
    Tick(Nanos),
    /// The recorder stops; what is under way is cut at once.
    End(Nanos),
}
