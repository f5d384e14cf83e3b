//! `incident.json`: what an incident says about itself, for people and for programs.
//!
//! The format is a contract: fields are added, never renamed or removed, without a new
//! [`SCHEMA_VERSION`]. Times are RFC 3339 in UTC with milliseconds, lengths of time are seconds,
//! sizes are bytes.
//!
//! Must not: read a clock, the host or the disk. The same incident makes the same bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory_document::{MemoryDocument, VictimDocument, victims};
use super::name::rfc3339;
use crate::capture::{Incident, IncidentCut, Losses};
use crate::collect::Nanos;
use crate::profile::Mover;
use crate::signals::{Signal, Target};

mod cause;

pub use cause::{ReasonDocument, RuleDocument};

/// The version of the format that this recorder writes.
pub const SCHEMA_VERSION: u32 = 1;

/// All of `incident.json`, in the order of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentDocument {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote it.
    pub recorder: RecorderDocument,
    /// The host's name.
    pub host: String,
    /// Whose incident it is.
    pub target: TargetDocument,
    /// `cpu`, `memory`, `threads`, `leak`; `null` where no rule fired, see `reason`. An early warning
    /// of the kernel is of `memory`.
    pub signal: Option<String>,
    /// Unit of `value` and `previous`: `percent`, `count` or `bytes/second`.
    pub unit: Option<String>,
    /// The rule that fired, if one did.
    pub rule: Option<RuleDocument>,
    /// Why.
    pub reason: ReasonDocument,
    /// The processes that the kernel killed for memory, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<VictimDocument>,
    /// The values before, oldest first.
    pub previous: Vec<f64>,
    /// The value that fired.
    pub value: f64,
    /// When.
    pub window: WindowDocument,
    /// CPU samples taken in the window, and what became of them.
    pub samples: SamplesDocument,
    /// What else was counted in the window: stacks cut or unreadable, other records lost.
    pub notes: BTreeMap<String, u64>,
    /// Where the memory is, for incidents with a memory profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryDocument>,
    /// What changed most at the onset, by function; rates of the second sample type of the
    /// signal's own profile.
    pub movers: Vec<Mover>,
    /// The profiles beside this file.
    pub files: Vec<FileDocument>,
    /// Probes that are off, so that nobody takes a missing profile for a quiet service.
    pub probes_off: Vec<ProbeOff>,
}

/// Who wrote an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderDocument {
    /// The program.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Whose incident it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TargetDocument {
    /// The whole host.
    Host,
    /// A cgroup with its descendants.
    Cgroup {
        /// Path from the hierarchy's root.
        path: String,
        /// The container, if the path names one.
        container: Option<ContainerDocument>,
    },
    /// One process.
    Process {
        /// Its id, in the initial pid namespace.
        pid: u32,
    },
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDocument {
    /// The runtime's id.
    pub id: String,
    /// The pod's uid, under Kubernetes.
    pub pod_uid: Option<String>,
}

/// The window's moments (wall clock) and lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowDocument {
    /// First moment.
    pub start: String,
    /// The spike is taken to have begun here; base profiles end here.
    pub onset: String,
    /// The rule fired.
    pub trigger: String,
    /// The moment behind the last.
    pub end: String,
    /// From `start` to `end`.
    pub duration_seconds: f64,
    /// From `start` to `onset`: what base profiles cover.
    pub before_onset_seconds: f64,
    /// From `onset` to `end`: what `-base` leaves.
    pub since_onset_seconds: f64,
}

/// CPU samples: `taken` = `reported` + the sum of `lost`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesDocument {
    /// Taken by the probes.
    pub taken: u64,
    /// Reached the window.
    pub reported: u64,
    /// Lost, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Nanoseconds of CPU time that one sample stands for.
    pub period_nanoseconds: u64,
}

/// A profile beside `incident.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDocument {
    /// File name in the folder.
    pub name: String,
    /// `cpu`, `mmap`, `threads`, ...; `timeline`, which has no values, and as samples what is drawn in it.
    pub kind: String,
    /// Whether it covers only the time before the onset.
    pub base: bool,
    /// What its values mean.
    pub sample_types: Vec<SampleType>,
    /// The sum of each value over all samples.
    pub totals: Vec<i64>,
    /// Samples in it.
    pub samples: u64,
    /// Its size.
    pub bytes: u64,
}

/// Type and unit of one value, as pprof names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleType {
    /// For example `cpu`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For example `nanoseconds`.
    pub unit: String,
}

/// A probe that is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOff {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// One written profile: what [`IncidentDocument::new`] needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary(FileDocument);

impl FileSummary {
    /// Of the profile that was made of `cut` into `name`, with this many samples and bytes.
    pub fn new(cut: &IncidentCut, name: &str, samples: u64, bytes: u64) -> Self {
        let kind = cut.cut.kind;
        let sample_types = kind
            .sample_types()
            .iter()
            .map(|&(kind, unit)| SampleType { kind: kind.to_owned(), unit: unit.to_owned() });
        Self(FileDocument {
            name: name.to_owned(),
            kind: kind.stem().to_owned(),
            base: cut.stem.ends_with(".base"),
            sample_types: sample_types.collect(),
            totals: kind.values(&cut.cut.totals()).to_vec(),
            samples,
            bytes,
        })
    }

    /// Of a timeline, with this many spans and samples.
    pub fn timeline(name: &str, events: u64, bytes: u64) -> Self {
        Self(FileDocument {
            name: name.to_owned(),
            kind: "timeline".to_owned(),
            base: false,
            sample_types: Vec::new(),
            totals: Vec::new(),
            samples: events,
            bytes,
        })
    }
}

impl IncidentDocument {
    /// The document of an incident. `version` is the recorder's, `host` the host's name.
    pub fn new(
        incident: &Incident,
        files: &[FileSummary],
        movers: Vec<Mover>,
        probes_off: Vec<ProbeOff>,
        version: &str,
        host: &str,
    ) -> Self {
        let Losses { taken, reported, lost, notes } = incident.losses.clone();
        Self {
            schema_version: SCHEMA_VERSION,
            recorder: RecorderDocument {
                name: "holmes-ebpf".to_owned(),
                version: version.to_owned(),
            },
            host: host.to_owned(),
            target: TargetDocument::from(&incident.target),
            signal: incident.signal.map(|signal| signal.name().to_owned()),
            unit: incident.signal.map(|signal| unit(signal).to_owned()),
            rule: incident.rule.as_ref().map(RuleDocument::from),
            reason: ReasonDocument::from(incident.reason),
            victims: victims(incident),
            previous: incident.previous.clone(),
            value: incident.value,
            window: WindowDocument::from(incident),
            samples: SamplesDocument {
                taken,
                reported,
                lost,
                period_nanoseconds: incident.sample_period_ns,
            },
            notes,
            memory: MemoryDocument::of(incident),
            movers,
            files: files.iter().map(|file| file.0.clone()).collect(),
            probes_off,
        }
    }
}

/// The unit of a signal's values.
const fn unit(signal: Signal) -> &'static str {
    match signal {
        Signal::Cpu | Signal::Memory => "percent",
        Signal::Threads | Signal::Goroutines | Signal::Psi => "count",
        Signal::Leak => "bytes/second",
    }
}

impl From<&Target> for TargetDocument {
    fn from(target: &Target) -> Self {
        match target {
            Target::Host => Self::Host,
            Target::Process { pid } => Self::Process { pid: *pid },
            Target::Cgroup { path, container } => Self::Cgroup {
                path: path.clone(),
                container: container.as_ref().map(|container| ContainerDocument {
                    id: container.id.clone(),
                    pod_uid: container.pod_uid.clone(),
                }),
            },
        }
    }
}

impl From<&Incident> for WindowDocument {
    fn from(incident: &Incident) -> Self {
        // The data path knows only the monotonic clock; the trigger is the one moment whose wall
        // clock is known, and the others lie as far from it as they do there.
        let wall = |moment: Nanos| {
            let unix = incident.trigger_unix_ns;
            rfc3339(if moment >= incident.trigger {
                unix.saturating_add(moment.0 - incident.trigger.0)
            } else {
                unix.saturating_sub(incident.trigger.0 - moment.0)
            })
        };
        let seconds = |span: Duration| span.as_secs_f64();
        Self {
            start: wall(incident.start),
            onset: wall(incident.onset),
            trigger: wall(incident.trigger),
            end: wall(incident.end),
            duration_seconds: seconds(incident.end.since(incident.start)),
            before_onset_seconds: seconds(incident.onset.since(incident.start)),
            since_onset_seconds: seconds(incident.end.since(incident.onset)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
