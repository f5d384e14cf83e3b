//! What a rule says about one value.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::leak::Growth;
use super::rule::FiredRule;
use crate::signals::Warning;

/// Why a value is a spike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is above `abs`.
    Abs,
    /// It is above `min`, and above the average of the previous values by more than `diff`
    /// percent.
    Diff {
        /// That average.
        average: f64,
    },
    /// Memory has grown for long.
    Leak(Growth),
    /// The kernel has given an early warning.
    Warned(Warning),
}

/// A value that a rule fires on.
#[derive(Clone, Debug, PartialEq)]
pub struct Spike {
    /// The rule, as it was then.
    pub rule: FiredRule,
    /// Which part of it.
    pub cause: Cause,
    /// The values before, oldest first; the value itself is not among them. Of a leak: how fast
    /// memory grew from part to part of the span.
    pub previous: Vec<f64>,
}

/// Why a spike is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suppression {
    /// Too few values have been seen to know what is normal.
    WarmUp,
    /// The value is at or above the rule's `max`.
    AboveMax,
    /// The same rule has just fired on the same target.
    Cooldown,
    /// The host's CPU use is above `cpu_max`.
    CpuMax,
    /// The hour's incidents are used up.
    Budget,
}

impl Suppression {
    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm_up",
            Self::AboveMax => "above_max",
            Self::Cooldown => "cooldown",
            Self::CpuMax => "cpu_max",
            Self::Budget => "budget",
        }
    }
}

impl fmt::Display for Suppression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What is to be done about a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Cut an incident.
    Fire(Spike),
    /// Nothing: it is no spike.
    Quiet,
    /// Nothing, although it is a spike.
    Suppressed(Suppression),
}

impl Decision {
    /// Every name that [`Decision::name`] gives, for counters that begin at zero.
    pub const NAMES: [&'static str; 7] =
        ["fire", "quiet", "warm_up", "above_max", "cooldown", "cpu_max", "budget"];

    /// The name in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fire(_) => "fire",
            Self::Quiet => "quiet",
            Self::Suppressed(why) => why.name(),
        }
    }
}
