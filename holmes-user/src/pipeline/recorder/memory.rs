//! Looks at the memory of targets, for incidents that are about to be cut.

use super::Recorder;
use crate::capture::{Input, MemoryLook};
use crate::collect::Nanos;
use crate::signals::Target;

impl Recorder {
    /// Looks at the memory of every target of which an incident is cut when time has passed until
    /// `time`: before each input that lets it pass.
    pub(super) fn look_where_due(&mut self, time: Nanos) {
        for target in self.flight.looks_due(time) {
            self.look(time, target);
        }
    }

    /// Looks where the memory of a target is, for an incident that is about to be cut.
    fn look(&mut self, time: Nanos, target: Target) {
        let pages =
            self.flight.window().resident_pages(&|owner| target.holds(owner.tgid, &owner.cgroup));
        let resident = self.live.resident_bytes(pages.iter().map(|(tgid, _)| *tgid));
        let gone = self.live.absent_pages(pages);
        let report = Some(self.reader.memory_report(&target));
        self.feed(Input::Memory(MemoryLook { time, target, gone, resident, report }));
    }
}
