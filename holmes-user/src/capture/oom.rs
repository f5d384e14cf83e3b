//! Kills for memory: each opens an incident of its target, or joins the one that is open.
//!
//! Must not: find out whose a victim is, or what the kernel said: that comes in.

use serde::{Deserialize, Serialize};

use super::incident::Reason;
use super::pending::Pending;
use super::recorder::FlightRecorder;
use super::totals::Refused;
use crate::collect::Nanos;
use crate::signals::{KernelKill, MemoryReport, Target};

/// Victims named in one incident. With `memory.oom.group` all processes of a cgroup are killed.
const MAX_VICTIMS: usize = 64;

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
    /// Where the target's memory was at that moment: the victim's neighbours by size.
    pub report: MemoryReport,
}

impl FlightRecorder {
    /// Takes a kill in.
    ///
    /// # Errors
    /// [`Refused`]; it is counted.
    pub fn killed(&mut self, kill: OomKill) -> Result<(), Refused> {
        let OomKill { target, victim, report } = kill;
        let mut open = self.pending_mut().iter_mut();
        let same = open.find(|it| it.reason == Reason::Oom && it.target == target);
        if let Some(pending) = same {
            if pending.victims.len() < MAX_VICTIMS {
                pending.victims.push(victim);
            }
            return Ok(());
        }
        let now = victim.time;
        let pending = Pending {
            reason: Reason::Oom,
            victims: vec![victim],
            report: Some(report),
            // Nothing comes after it: who reads it is waiting.
            end: now,
            quiet: now.minus(self.quiet_before_oom()),
            ..self.unasked(now, target)
        };
        self.open_counted(pending, "oom")
    }

    /// What the kernel's log said of a victim, before its incident is cut.
    pub(super) fn told_of(&mut self, kills: &[KernelKill]) {
        let victims = self.pending_mut().iter_mut().flat_map(|pending| &mut pending.victims);
        for victim in victims {
            if let Some(kill) = kills.iter().find(|kill| kill.pid == victim.pid) {
                victim.kernel = Some(kill.clone());
            }
        }
    }
}
