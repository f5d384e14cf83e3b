//! An early warning: the kernel says that memory runs short, before anybody is killed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the kernel has said about a target's memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// Tasks had to wait for memory for longer than the rule allows.
    Pressure {
        /// Share of the last ten seconds in which some task waited, percent.
        some_avg10: f64,
    },
    /// The cgroup went above `memory.high`: the kernel slows it down.
    MemoryHigh {
        /// How often since the last warning.
        events: u64,
        /// What cannot be taken back, percent of `memory.high`.
        held_percent: f64,
    },
    /// The cgroup was about to go above `memory.max`: the kernel took pages from it.
    MemoryMax {
        /// How often since the last warning.
        events: u64,
        /// What cannot be taken back, percent of `memory.max`.
        held_percent: f64,
    },
}

impl Warning {
    /// The name in incidents and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pressure { .. } => "pressure",
            Self::MemoryHigh { .. } => "memory_high",
            Self::MemoryMax { .. } => "memory_max",
        }
    }

    /// Whether its numbers are such.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Pressure { some_avg10: percent }
            | Self::MemoryHigh { held_percent: percent, .. }
            | Self::MemoryMax { held_percent: percent, .. } => percent.is_finite(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The kernel's average is slow: it says less than the trigger that was raised.
            Self::Pressure { some_avg10 } => {
                write!(out, "tasks have to wait for it (avg10 {some_avg10:.1} %)")
            }
            Self::MemoryHigh { events, held_percent } => write!(
                out,
                "memory.high was passed {events} times, {held_percent:.0} % of it cannot be taken back"
            ),
            Self::MemoryMax { events, held_percent } => write!(
                out,
                "memory.max was reached {events} times, {held_percent:.0} % of it cannot be taken back"
            ),
        }
    }
}
