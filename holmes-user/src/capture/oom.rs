//! Kills for memory: each opens an incident of its target, or joins the one that is open.
//!
//! Must not: find out whose a victim is, or what the kernel said: that comes in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::incident::Reason;
use super::pending::Pending;
use super::recorder::FlightRecorder;
use super::totals::Refused;
use crate::collect::Nanos;
use crate::signals::{KernelKill, MemoryReport, Target};

/// Victims named in one incident. With `memory.oom.group` all processes of a cgroup are killed.
const MAX_VICTIMS: usize = 64;

/// Kills of one target that follow the first within this time share its incident, which ends with the
/// last of them: the first one's reader is not to wait much longer for it.
const SHARED: Duration = Duration::from_millis(500);

/// A process that the kernel killed because memory ran out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OomVictim {
    /// Its id, in the initial pid namespace.
    pub pid: u32,
    /// Its name; empty where it had gone before anybody could look.
    pub comm: String,
    /// When the kernel chose it.
    pub time: Nanos,
    /// What the kernel's log says of it, if that can be read.
    pub kernel: Option<KernelKill>,
}

/// A kill, and what was seen right after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OomKill {
    /// Whose incident it is.
    pub target: Target,
    /// Who.
    pub victim: OomVictim,
    /// Where the target's memory was at that moment: the victim's neighbours by size. Absent where the
    /// kill joins an incident, which has one: see [`FlightRecorder::opens`].
    pub report: Option<MemoryReport>,
}

impl FlightRecorder {
    /// Whether a kill of this target now opens an incident. Otherwise it joins the one that is open.
    pub fn opens(&self, target: &Target, time: Nanos) -> bool {
        !self.pending.iter().any(|pending| takes(pending, target, time))
    }

    /// Whether a process is a victim of an incident that is open.
    pub fn is_victim(&self, pid: u32) -> bool {
        let mut victims = self.pending.iter().flat_map(|pending| &pending.victims);
        victims.any(|victim| victim.pid == pid)
    }

    /// Takes a kill in. A victim that is known already says it again: each of its threads may.
    ///
    /// # Errors
    /// [`Refused`]; it is counted.
    pub fn killed(&mut self, kill: OomKill) -> Result<(), Refused> {
        let OomKill { target, victim, report } = kill;
        if self.is_victim(victim.pid) {
            return Ok(());
        }
        let mut open = self.pending.iter_mut();
        if let Some(pending) = open.find(|pending| takes(pending, &target, victim.time)) {
            pending.end = pending.end.max(victim.time);
            if pending.victims.len() >= MAX_VICTIMS {
                return Err(self.refuse(Refused::Victims, "victims_full"));
            }
            pending.victims.push(victim);
            return Ok(());
        }
        let now = victim.time;
        let pending = Pending {
            reason: Reason::Oom,
            victims: vec![victim],
            report,
            // Nothing comes after it: who reads it is waiting.
            end: now,
            quiet: now.minus(self.quiet_before_oom()),
            ..self.unasked(now, target)
        };
        self.open_counted(pending, "oom")
    }

    /// What the kernel's log said of a victim, before its incident is cut.
    pub(super) fn told_of(&mut self, kills: &[KernelKill]) {
        let victims = self.pending.iter_mut().flat_map(|pending| &mut pending.victims);
        for victim in victims {
            if let Some(kill) = kills.iter().find(|kill| kill.pid == victim.pid) {
                victim.kernel = Some(kill.clone());
            }
        }
    }
}

/// Whether a kill of this target joins an incident.
fn takes(pending: &Pending, target: &Target, time: Nanos) -> bool {
    pending.reason == Reason::Oom
        && pending.target == *target
        && time <= pending.trigger.plus(SHARED)
}

#[cfg(test)]
mod tests;
