//! The rules at work: what is known of each target, and the decision on each new value.
//!
//! Must not: do I/O or read a clock.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::budget::Budget;
use super::history::History;
use super::leak::{self, Floors};
use super::{Cause, Decision, FiredRule, Rule, RuleSet, Spike, Suppression};
use crate::collect::Nanos;
use crate::signals::{MemoryUse, Signal, Target, Warning};

/// Targets that are remembered: twice what `signals` reads at one time, so that a churn of
/// containers does not push out those that live.
const MAX_REMEMBERED: usize = 2048;

/// How long a target is remembered that is no longer read. A container that comes back later has
/// to warm up again, so that no cooldown that matters is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// How often forgotten targets are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What is known of one signal of one target.
#[derive(Clone, Debug, Default)]
struct Known {
    history: History,
    fired: Option<Nanos>,
}

/// What is known of one target.
#[derive(Clone, Debug, Default)]
struct Remembered {
    seen: Nanos,
    known: [Known; Signal::ALL.len()],
    memory: Floors,
}

impl Remembered {
    fn known(&mut self, signal: Signal) -> &mut Known {
        &mut self.known[signal as usize]
    }
}

/// Decides which values are spikes that deserve an incident.
#[derive(Clone, Debug)]
pub struct RuleBook {
    rules: RuleSet,
    targets: FxHashMap<Target, Remembered>,
    budget: Budget,
    /// Of kills for memory: neither they nor the others use up what belongs to the other.
    kills: Budget,
    swept: Nanos,
    pushed_out: u64,
}

impl RuleBook {
    /// A book that has seen nothing yet.
    pub fn new(rules: RuleSet) -> Self {
        let (targets, budget) = (FxHashMap::default(), Budget::default());
        let kills = Budget::default();
        Self { rules, targets, budget, kills, swept: Nanos::default(), pushed_out: 0 }
    }

    /// Goes on with other rules. What is known of the targets, their cooldowns and the spent budget
    /// stay.
    pub fn replace(&mut self, rules: RuleSet) {
        self.rules = rules;
    }

    /// The rules in force.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Takes one incident out of the hour's budget, for one that no rule decided. Whether there was
    /// one left.
    pub fn spend(&mut self, now: Nanos) -> bool {
        Self::spend_of(&mut self.budget, self.rules.max_incidents_per_hour, now)
    }

    /// The same for a kill for memory: as many again.
    pub fn spend_on_kill(&mut self, now: Nanos) -> bool {
        Self::spend_of(&mut self.kills, self.rules.max_incidents_per_hour, now)
    }

    fn spend_of(budget: &mut Budget, at_most: u32, now: Nanos) -> bool {
        let allowed = budget.allows(now, at_most);
        if allowed {
            budget.spend(now);
        }
        allowed
    }

    /// Targets that are remembered.
    pub fn remembered(&self) -> usize {
        self.targets.len()
    }

    /// Targets that were forgotten early because there were too many.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// Decides on a new value and remembers it, whatever the decision. Values that are negative or
    /// not finite are neither judged nor remembered. `host_cpu` is the host's CPU use in percent.
    pub fn decide(
        &mut self,
        now: Nanos,
        target: &Target,
        signal: Signal,
        value: f64,
        host_cpu: f64,
    ) -> Decision {
        if !value.is_finite() || value < 0.0 {
            return Decision::Quiet;
        }
        let (rules, budget) = (self.rules, &mut self.budget);
        let known = remember(&mut self.targets, &mut self.pushed_out, now, target).known(signal);
        let decision = match rules.get(signal) {
            None => Decision::Quiet,
            Some(rule) => match cause(rule, &known.history, value) {
                None => Decision::Quiet,
                Some(_) if !known.history.is_warm() => Decision::Suppressed(Suppression::WarmUp),
                Some(_) if rule.max > 0.0 && value >= rule.max => {
                    Decision::Suppressed(Suppression::AboveMax)
                }
                Some(cause) => {
                    let previous = known.history.values();
                    let spike = Spike { rule: FiredRule::Value(*rule), cause, previous };
                    fire(&rules, known, budget, now, rule.cooldown, host_cpu, spike)
                }
            },
        };
        known.history.push(value);
        self.sweep(now);
        decision
    }

    /// Decides whether a target's memory leaks, and remembers how much it was. `host_cpu` is the
    /// host's CPU use in percent.
    pub fn decide_leak(&mut self, now: Nanos, memory: &MemoryUse, host_cpu: f64) -> Decision {
        let (rules, budget) = (self.rules, &mut self.budget);
        let Some(rule) = &rules.leak else { return Decision::Quiet };
        let target = remember(&mut self.targets, &mut self.pushed_out, now, &memory.target);
        let decision = match leak::judge(rule, &mut target.memory, now, memory) {
            None => Decision::Quiet,
            Some((growth, rises)) => {
                let spike = Spike {
                    rule: FiredRule::Leak(*rule),
                    cause: Cause::Leak(growth),
                    previous: rises.to_vec(),
                };
                let known = target.known(Signal::Leak);
                fire(&rules, known, budget, now, rule.cooldown, host_cpu, spike)
            }
        };
        self.sweep(now);
        decision
    }

    /// Decides on an early warning of the kernel. The previous values are those of the target's
    /// memory. `host_cpu` is the host's CPU use in percent.
    pub fn decide_warning(
        &mut self,
        now: Nanos,
        target: &Target,
        warning: Warning,
        host_cpu: f64,
    ) -> Decision {
        let (rules, budget) = (self.rules, &mut self.budget);
        let Some(rule) = &rules.psi else { return Decision::Quiet };
        let counts = match warning {
            Warning::Pressure { .. } => true,
            Warning::MemoryHigh { held_percent, .. } | Warning::MemoryMax { held_percent, .. } => {
                held_percent > rule.min
            }
        };
        if !counts || !warning.is_finite() {
            return Decision::Quiet;
        }
        let target = remember(&mut self.targets, &mut self.pushed_out, now, target);
        let spike = Spike {
            rule: FiredRule::Psi(*rule),
            cause: Cause::Warned(warning),
            previous: target.known(Signal::Memory).history.values(),
        };
        fire(&rules, target.known(Signal::Psi), budget, now, rule.cooldown, host_cpu, spike)
    }

    fn sweep(&mut self, now: Nanos) {
        if now.since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.targets.retain(|_, remembered| now.since(remembered.seen) < FORGET_AFTER);
        }
    }
}

/// What is known of the target, as seen `now`. Where there are too many, the one not seen for
/// longest makes room.
fn remember<'a>(
    targets: &'a mut FxHashMap<Target, Remembered>,
    pushed_out: &mut u64,
    now: Nanos,
    target: &Target,
) -> &'a mut Remembered {
    if !targets.contains_key(target) && targets.len() >= MAX_REMEMBERED {
        // By name among equals: a replay must not depend on the order of a hash table.
        let oldest = targets
            .iter()
            .min_by(|(one, one_seen), (other, other_seen)| {
                one_seen.seen.cmp(&other_seen.seen).then_with(|| one.cmp(other))
            })
            .map(|(target, _)| target.clone());
        if let Some(oldest) = oldest {
            targets.remove(&oldest);
            *pushed_out += 1;
        }
    }
    let remembered = targets.entry(target.clone()).or_default();
    remembered.seen = now;
    remembered
}

/// Why the value is a spike, `max` left aside; `None` where it is none.
fn cause(rule: &Rule, history: &History, value: f64) -> Option<Cause> {
    if rule.abs > 0.0 && value > rule.abs {
        return Some(Cause::Abs);
    }
    let average = history.average()?;
    let rises = rule.diff > 0.0 && value > rule.min && value > average * (1.0 + rule.diff / 100.0);
    rises.then_some(Cause::Diff { average })
}

/// Fires, unless something holds it back: what lasts longest first.
fn fire(
    rules: &RuleSet,
    known: &mut Known,
    budget: &mut Budget,
    now: Nanos,
    cooldown: Duration,
    host_cpu: f64,
    spike: Spike,
) -> Decision {
    let suppressed = if known.fired.is_some_and(|fired| now.since(fired) < cooldown) {
        Suppression::Cooldown
    } else if rules.cpu_max > 0.0 && host_cpu > rules.cpu_max {
        Suppression::CpuMax
    } else if !budget.allows(now, rules.max_incidents_per_hour) {
        Suppression::Budget
    } else {
        known.fired = Some(now);
        budget.spend(now);
        return Decision::Fire(spike);
    };
    Decision::Suppressed(suppressed)
}

#[cfg(test)]
mod tests;
