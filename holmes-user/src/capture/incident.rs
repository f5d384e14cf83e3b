//! An incident that has been cut, not yet named.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::oom::OomVictim;
use crate::collect::Nanos;
use crate::rules::{FiredRule, Growth};
use crate::signals::{MemoryReport, Signal, Target, Warning};
use crate::window::{Cut, HeapNote, Timeline};

/// Why an incident was cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The value was above `abs`.
    Abs,
    /// The value was above the average of the previous ones by more than `diff` percent.
    Diff {
        /// That average.
        average: f64,
    },
    /// Memory has grown for long.
    Leak(Growth),
    /// The kernel warned that memory runs short.
    Warned(Warning),
    /// The kernel killed a process because memory ran out.
    Oom,
    /// Somebody asked, by `POST /trigger` or SIGUSR1.
    Manual,
}

/// What was taken in the incident's span, and what became of it. `taken` is always
/// `reported` + the sum of `lost`.
///
/// Of everything that is watched, not of the target alone: nobody knows whose a lost sample was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// CPU samples taken by the probes.
    pub taken: u64,
    /// CPU samples that reached the window.
    pub reported: u64,
    /// CPU samples lost, by cause.
    pub lost: BTreeMap<String, u64>,
    /// What else was counted in the span: stacks cut or unreadable, memory and task records lost.
    pub notes: BTreeMap<String, u64>,
}

impl Losses {
    /// CPU samples lost, whatever the cause.
    pub fn lost_in_all(&self) -> u64 {
        self.lost.values().sum()
    }

    /// In words: `9 taken = 7 reported + 2 lost (ring_full 2)`.
    pub fn account(&self) -> String {
        let causes: Vec<String> = self
            .lost
            .iter()
            .filter(|&(_, &count)| count > 0)
            .map(|(cause, count)| format!("{cause} {count}"))
            .collect();
        let causes =
            if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
        let (taken, reported, lost) = (self.taken, self.reported, self.lost_in_all());
        format!("{taken} taken = {reported} reported + {lost} lost{causes}")
    }
}

/// One profile of an incident.
#[derive(Clone, Debug)]
pub struct IncidentCut {
    /// File name without its ending: `cpu`, `cpu.base`, `threads`, ...
    pub stem: String,
    /// The samples.
    pub cut: Cut,
}

/// A spike, with the samples of the time before, during and after.
#[derive(Clone, Debug)]
pub struct Incident {
    /// Of what.
    pub target: Target,
    /// Which signal fired; `None` for a manual trigger.
    pub signal: Option<Signal>,
    /// The rule that fired; `None` for a manual trigger.
    pub rule: Option<FiredRule>,
    /// Why.
    pub reason: Reason,
    /// The processes that the kernel killed, the first one first; empty but for [`Reason::Oom`].
    pub victims: Vec<OomVictim>,
    /// The values before, oldest first; of a leak, how fast memory grew from part to part of its
    /// span.
    pub previous: Vec<f64>,
    /// The value that fired; of an early warning, the last one of the target's memory.
    pub value: f64,
    /// First moment of the window.
    pub start: Nanos,
    /// When the spike is taken to have begun: the base profiles end here.
    pub onset: Nanos,
    /// When the rule fired.
    pub trigger: Nanos,
    /// The moment behind the last.
    pub end: Nanos,
    /// The trigger's wall-clock time, in nanoseconds since 1970 UTC.
    pub trigger_unix_ns: u64,
    /// Nanoseconds of CPU time that one sample stands for.
    pub sample_period_ns: u64,
    /// Bytes of touched memory that one fault sample stands for, on average.
    pub memory_interval: u64,
    /// Where the target's memory was at the end, for incidents of memory.
    pub memory: Option<MemoryReport>,
    /// What the heap profiles are that its Go programs keep of themselves.
    pub go_heaps: Vec<HeapNote>,
    /// What was lost.
    pub losses: Losses,
    /// The profiles.
    pub cuts: Vec<IncidentCut>,
    /// What its threads did one after the other, where it shows what they waited for.
    pub timeline: Option<Timeline>,
}

impl Incident {
    /// What it is an incident of, in a word: the signal's name, `oom` or `manual`.
    pub fn kind(&self) -> &'static str {
        match (self.reason, self.signal) {
            (Reason::Oom, _) => "oom",
            (_, Some(signal)) => signal.name(),
            (_, None) => "manual",
        }
    }
}
