//! A rule's numbers, in Holmes' grammar.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::leak::LeakRule;
use crate::signals::Signal;

/// When a signal's value is a spike: below `max`, and above `abs`, or above `min` and above the
/// average of the previous values by `diff` percent. Zero means off for `diff`, `abs` and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Values up to this one never fire by `diff`.
    pub min: f64,
    /// Percent above the average of the previous values.
    pub diff: f64,
    /// Values above this one always fire.
    pub abs: f64,
    /// Values at or above this one never fire.
    pub max: f64,
    /// After firing, the rule is quiet for this long on the same target.
    #[serde(with = "crate::rules::rule::seconds")]
    pub cooldown: Duration,
}

/// When the kernel's early warnings about memory deserve an incident.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PsiRule {
    /// In each window some task must have waited for memory for this long.
    #[serde(with = "crate::rules::rule::seconds")]
    pub stall: Duration,
    /// That window: 500 ms to 10 s is what the kernel takes.
    #[serde(with = "crate::rules::rule::seconds")]
    pub window: Duration,
    /// Events of `memory.high` and `memory.max` count where more than this percentage of them cannot
    /// be taken back: a cgroup that reads many files is at its limit all the time.
    pub min: f64,
    /// After firing, the rule is quiet for this long on the same target.
    #[serde(with = "crate::rules::rule::seconds")]
    pub cooldown: Duration,
}

/// A rule that has fired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FiredRule {
    /// That of a value.
    Value(Rule),
    /// That of growth.
    Leak(LeakRule),
    /// That of the kernel's early warnings.
    Psi(PsiRule),
}

/// The rule of each signal (`None`: that signal is not watched), and the bounds over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// CPU, percent.
    pub cpu: Option<Rule>,
    /// Memory, percent.
    pub memory: Option<Rule>,
    /// Threads, count.
    pub threads: Option<Rule>,
    /// Goroutines, count. Recordings of earlier versions have none.
    #[serde(default)]
    pub goroutines: Option<Rule>,
    /// Growth of memory. Recordings of earlier versions have none.
    #[serde(default)]
    pub leak: Option<LeakRule>,
    /// The kernel's early warnings. Recordings of earlier versions have none.
    #[serde(default)]
    pub psi: Option<PsiRule>,
    /// No capture while the host's CPU use is above this percentage; 0 is off.
    pub cpu_max: f64,
    /// Incidents in any hour, over all rules and targets.
    pub max_incidents_per_hour: u32,
}

impl Default for RuleSet {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let percent = Rule { min: 10.0, diff: 25.0, abs: 80.0, max: 0.0, cooldown: minutes(1) };
        Self {
            cpu: Some(percent),
            memory: Some(percent),
            threads: Some(Rule {
                min: 200.0,
                diff: 25.0,
                abs: 10_000.0,
                max: 0.0,
                cooldown: minutes(10),
            }),
            goroutines: Some(Rule {
                min: 3000.0,
                diff: 20.0,
                abs: 200_000.0,
                max: 0.0,
                cooldown: minutes(10),
            }),
            leak: Some(LeakRule {
                // A MiB a minute.
                rate: (1 << 20) as f64 / 60.0,
                span: minutes(10),
                within: minutes(6 * 60),
                cooldown: minutes(60),
            }),
            psi: Some(PsiRule {
                stall: Duration::from_millis(300),
                // Who may not use real-time threads is given multiples of two seconds only.
                window: Duration::from_secs(2),
                min: 50.0,
                cooldown: minutes(10),
            }),
            cpu_max: 0.0,
            max_incidents_per_hour: 30,
        }
    }
}

impl RuleSet {
    /// The rule of a signal's values; `None` where it is switched off, or has none.
    pub fn get(&self, signal: Signal) -> Option<&Rule> {
        match signal {
            Signal::Cpu => self.cpu.as_ref(),
            Signal::Memory => self.memory.as_ref(),
            Signal::Threads => self.threads.as_ref(),
            Signal::Goroutines => self.goroutines.as_ref(),
            Signal::Leak | Signal::Psi => None,
        }
    }
}

/// Durations as seconds, so that a recording reads naturally.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(value.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(input)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}
