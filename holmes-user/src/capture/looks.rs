//! What somebody has to look at for an incident, beside the samples, and what was found.
//!
//! Must not: look.

use super::incident::Reason;
use super::input::{GoHeapLook, GoroutineLook, LookWanted, MemoryLook};
use super::pending::Pending;
use super::recorder::{FlightRecorder, deadline};
use crate::collect::Nanos;
use crate::signals::Target;

impl FlightRecorder {
    /// What is to be looked at before [`Self::tick`] cuts what is due now.
    pub fn looks_due(&self, now: Nanos) -> Vec<LookWanted> {
        let due = self.pending.iter().filter(|pending| deadline(pending) <= now);
        due.map(Pending::look_wanted).filter(LookWanted::is_any).collect()
    }

    pub(super) fn looked(&mut self, look: MemoryLook) {
        let MemoryLook { time: _, target, gone, resident, report, holders, kills } = look;
        self.window.locks_held(&holders);
        for (tgid, addresses) in &gone {
            self.window.pages_gone(*tgid, addresses);
        }
        self.told_of(&kills);
        for (tgid, bytes) in &resident {
            self.window.resident(*tgid, *bytes);
        }
        if report.is_none() {
            return;
        }
        // Of a kill, what was seen right after it counts; of the others, the last look.
        let same = self.pending.iter_mut().filter(|it| it.target == target);
        for pending in same.filter(|it| it.reason != Reason::Oom) {
            pending.report.clone_from(&report);
        }
    }

    pub(super) fn looked_at_go_heap(&mut self, look: GoHeapLook) {
        // Of incidents that are cut at different times each has the last look before that.
        let same = self.pending.iter_mut().filter(|it| it.target == look.target);
        for pending in same.filter(|it| it.shows_residency()) {
            pending.go_heap = Some(look.clone());
        }
    }

    /// The targets of incidents that are about goroutines, which nobody has looked at yet.
    pub fn goroutines_wanted(&self) -> Vec<Target> {
        let wanted = self.pending.iter().filter(|pending| pending.wants_goroutines());
        wanted.map(|pending| pending.target.clone()).collect()
    }

    pub(super) fn looked_at_goroutines(&mut self, look: GoroutineLook) {
        let same = self.pending.iter_mut().filter(|it| it.target == look.target);
        for pending in same.filter(|it| it.wants_goroutines()) {
            pending.goroutines = Some(look.clone());
        }
    }
}
