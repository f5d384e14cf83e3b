//! Looks at the memory of targets, for incidents that are about to be cut.

use super::Recorder;
use crate::capture::{Input, MemoryLook};
use crate::collect::Nanos;
use crate::signals::Target;

impl Recorder {
    /// Looks where the memory of a target is, for an incident that is about to be cut.
    pub(super) fn look(&mut self, time: Nanos, target: Target) {
        let pages =
            self.flight.window().resident_pages(&|owner| target.holds(owner.tgid, &owner.cgroup));
        let gone = self.live.absent_pages(pages);
        let report = Some(self.reader.memory_report(&target));
        self.feed(Input::Memory(MemoryLook { time, target, gone, report }));
    }
}
