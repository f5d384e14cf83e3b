//! The lines of a recording, as they are in the file.
//!
//! Must not: check anything beyond types; the reader does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::input::{
    CaptureSettings, Counters, GoHeapLook, GoroutineLook, MemoryLook, Start,
};
use super::super::names::RecordedName;
use super::super::oom::OomKill;
use crate::collect::{CgroupId, Nanos, Observation};
use crate::process::{Cgroup, Image};
use crate::rules::RuleSet;
use crate::settings::WindowSettings;
use crate::signals::{SignalFrame, Target, Warning};

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// The version of the format.
    pub(super) holmes_recording: u32,
}

/// Any other line. Borrowed where it is written, owned where it is read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// The second line, and no other.
    Start(StartLine),
    /// Defines the image of this number; a second one would be taken for the first.
    Image(Cow<'a, Image>),
    /// Defines the cgroup of this id, anew if it was defined before.
    Cgroup(Cow<'a, Cgroup>),
    /// All definitions are void.
    Forget,
    Observation(ObservationLine<'a>),
    Signals(Cow<'a, SignalFrame>),
    Counters(CountersLine<'a>),
    Clock {
        monotonic: Nanos,
        unix_ns: u64,
    },
    Memory(Cow<'a, MemoryLook>),
    Goroutines(Cow<'a, GoroutineLook>),
    GoHeap(Cow<'a, GoHeapLook>),
    OomKill(Cow<'a, OomKill>),
    Trigger {
        time: Nanos,
        target: Option<Cow<'a, Target>>,
    },
    Warning {
        time: Nanos,
        target: Cow<'a, Target>,
        what: Warning,
    },
    Reload(CaptureLine),
    Names(Cow<'a, [RecordedName]>),
    Tick(Nanos),
    End(Nanos),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ObservationLine<'a> {
    /// The number of an image defined before.
    pub(super) image: Option<u32>,
    /// The id of a cgroup defined before.
    pub(super) cgroup: CgroupId,
    pub(super) record: Cow<'a, Observation>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CountersLine<'a> {
    pub(super) time: Nanos,
    pub(super) totals: Cow<'a, BTreeMap<String, u64>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartLine {
    time: Nanos,
    unix_ns: u64,
    sample_period_ns: u64,
    /// Absent in recordings without fault samples.
    #[serde(default)]
    memory_interval: u64,
    window_span_ns: u64,
    window_max_bytes: usize,
    window_max_stacks: usize,
    /// Absent in recordings without timelines: they are replayed without, too.
    #[serde(default)]
    window_timeline_bytes: usize,
    capture: CaptureLine,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CaptureLine {
    interval_ns: u64,
    lookback_ns: u64,
    after_ns: u64,
    rules: RuleSet,
}

/// Durations beyond 584 years are as good as that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl From<&CaptureSettings> for CaptureLine {
    fn from(settings: &CaptureSettings) -> Self {
        Self {
            interval_ns: nanos(settings.interval),
            lookback_ns: nanos(settings.lookback),
            after_ns: nanos(settings.after),
            rules: settings.rules,
        }
    }
}

impl From<CaptureLine> for CaptureSettings {
    fn from(line: CaptureLine) -> Self {
        Self {
            interval: Duration::from_nanos(line.interval_ns),
            lookback: Duration::from_nanos(line.lookback_ns),
            after: Duration::from_nanos(line.after_ns),
            rules: line.rules,
        }
    }
}

impl From<&Start> for StartLine {
    fn from(start: &Start) -> Self {
        Self {
            time: start.time,
            unix_ns: start.unix_ns,
            sample_period_ns: start.sample_period_ns,
            memory_interval: start.memory_interval,
            window_span_ns: nanos(start.window.span),
            window_max_bytes: start.window.max_bytes,
            window_max_stacks: start.window.max_stacks,
            window_timeline_bytes: start.window.timeline_bytes,
            capture: (&start.capture).into(),
        }
    }
}

impl From<StartLine> for Start {
    fn from(line: StartLine) -> Self {
        Self {
            time: line.time,
            unix_ns: line.unix_ns,
            sample_period_ns: line.sample_period_ns,
            memory_interval: line.memory_interval,
            window: WindowSettings {
                span: Duration::from_nanos(line.window_span_ns),
                max_bytes: line.window_max_bytes,
                max_stacks: line.window_max_stacks,
                timeline_bytes: line.window_timeline_bytes,
            },
            capture: line.capture.into(),
        }
    }
}

impl From<CountersLine<'_>> for Counters {
    fn from(line: CountersLine<'_>) -> Self {
        Self { time: line.time, totals: line.totals.into_owned() }
    }
}
