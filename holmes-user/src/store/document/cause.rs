//! The part of `incident.json` that says which rule fired, and why.
//!
//! Must not: hold anything but plain values.

use serde::{Deserialize, Serialize};

use crate::capture::Reason;
use crate::rules::{FiredRule, Growth};
use crate::signals::Warning;

/// A rule's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RuleDocument {
    /// Of a value.
    Value {
        /// Values up to this one never fire by `diff`.
        min: f64,
        /// Percent above the average; 0 is off.
        diff: f64,
        /// Values above this one always fire; 0 is off.
        abs: f64,
        /// Values at or above this one never fire; 0 is off.
        max: f64,
        /// Quiet after firing.
        cooldown_seconds: f64,
    },
    /// Of growth.
    Leak {
        /// Slower growth never fires.
        bytes_per_second: f64,
        /// How long it must have stayed above that.
        for_seconds: f64,
        /// The limit must be reached in this time; 0 is off.
        within_seconds: f64,
        /// Quiet after firing.
        cooldown_seconds: f64,
    },
    /// Of the kernel's early warnings.
    Psi {
        /// Some task must have waited for memory for this long...
        stall_seconds: f64,
        /// ...in each of these.
        window_seconds: f64,
        /// Percent of `memory.high` or `memory.max` that must not be reclaimable.
        min: f64,
        /// Quiet after firing.
        cooldown_seconds: f64,
    },
}

/// Why an incident was cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReasonDocument {
    /// Above `abs`.
    Abs,
    /// Above the average of the previous values by more than `diff` percent.
    Diff {
        /// That average.
        average: f64,
    },
    /// Memory has grown for long.
    Leak {
        /// How fast.
        bytes_per_second: f64,
        /// For how long.
        span_seconds: f64,
        /// Memory at the trigger that the kernel cannot take back.
        memory_bytes: u64,
        /// The nearest limit; `null` without one.
        limit_bytes: Option<u64>,
        /// Until the limit is reached at this rate; `null` without one.
        seconds_to_limit: Option<f64>,
    },
    /// Tasks had to wait for memory.
    Pressure {
        /// Share of ten seconds in which some task waited, percent.
        some_avg10: f64,
    },
    /// The cgroup went above `memory.high`.
    MemoryHigh {
        /// How often since the last warning.
        events: u64,
        /// What cannot be taken back, percent of `memory.high`.
        held_percent: f64,
    },
    /// The cgroup reached `memory.max`.
    MemoryMax {
        /// How often since the last warning.
        events: u64,
        /// What cannot be taken back, percent of `memory.max`.
        held_percent: f64,
    },
    /// The kernel killed a process because memory ran out: see `victims`.
    Oom,
    /// Somebody asked.
    Manual,
}

impl From<&FiredRule> for RuleDocument {
    fn from(rule: &FiredRule) -> Self {
        match *rule {
            FiredRule::Value(rule) => Self::Value {
                min: rule.min,
                diff: rule.diff,
                abs: rule.abs,
                max: rule.max,
                cooldown_seconds: rule.cooldown.as_secs_f64(),
            },
            FiredRule::Leak(rule) => Self::Leak {
                bytes_per_second: rule.rate,
                for_seconds: rule.span.as_secs_f64(),
                within_seconds: rule.within.as_secs_f64(),
                cooldown_seconds: rule.cooldown.as_secs_f64(),
            },
            FiredRule::Psi(rule) => Self::Psi {
                stall_seconds: rule.stall.as_secs_f64(),
                window_seconds: rule.window.as_secs_f64(),
                min: rule.min,
                cooldown_seconds: rule.cooldown.as_secs_f64(),
            },
        }
    }
}

impl From<Reason> for ReasonDocument {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Abs => Self::Abs,
            Reason::Diff { average } => Self::Diff { average },
            Reason::Manual => Self::Manual,
            Reason::Oom => Self::Oom,
            Reason::Leak(Growth { rate, span, bytes, limit, seconds_to_limit }) => Self::Leak {
                bytes_per_second: rate,
                span_seconds: span.as_secs_f64(),
                memory_bytes: bytes,
                limit_bytes: limit,
                seconds_to_limit,
            },
            Reason::Warned(Warning::Pressure { some_avg10 }) => Self::Pressure { some_avg10 },
            Reason::Warned(Warning::MemoryHigh { events, held_percent }) => {
                Self::MemoryHigh { events, held_percent }
            }
            Reason::Warned(Warning::MemoryMax { events, held_percent }) => {
                Self::MemoryMax { events, held_percent }
            }
        }
    }
}
