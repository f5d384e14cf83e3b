//! Looks at the memory of targets: for incidents that are about to be cut, when the kernel has killed a
//! process, and of those that are near their limit.

use std::fs;
use std::path::Path;

use tracing::{info, warn};

use super::{PROC, Recorder};
use crate::capture::{Input, LookWanted, MemoryLook, OomKill, OomVictim};
use crate::collect::{CgroupId, Nanos, clock};
use crate::process::Attributed;
use crate::signals::{Signal, SignalFrame, Target};

/// Percent of its limit from which a target's pages are looked at every interval: what the kernel has
/// reclaimed meanwhile must not be held against anybody, and after a kill nobody can look any more.
const NEAR_LIMIT: f64 = 70.0;

/// Pages looked at for that: a few milliseconds of work.
const MAX_LOOKED_AT: usize = 16_384;

impl Recorder {
    /// Looks where the memory of targets is whose incidents are due then: before the input that cuts
    /// them.
    pub(super) fn look_at_due(&mut self, then: Nanos) {
        for wanted in self.flight.looks_due(then) {
            self.look(wanted);
        }
    }

    fn look(&mut self, wanted: LookWanted) {
        let LookWanted { target, residency, victims } = wanted;
        let time = clock::monotonic();
        let (gone, resident) = if residency { self.absent(&target, MAX_LOOKED_AT_ONCE) } else { Default::default() };
        let report = residency.then(|| self.reader.memory_report(&target));
        let kills = victims.iter().filter_map(|pid| self.kernel_log.kill_of(*pid)).collect();
        self.feed(Input::Memory(MemoryLook { time, target, gone, resident, report, kills }));
    }

    /// Looks at the pages of the target that is nearest to its limit.
    pub(super) fn look_near_limit(&mut self, frame: &SignalFrame) {
        let near = frame
            .readings
            .iter()
            .filter(|reading| reading.signal == Signal::Memory && reading.value >= NEAR_LIMIT)
            .max_by(|one, other| one.value.total_cmp(&other.value));
        if let Some(near) = near {
            let target = near.target.clone();
            let (gone, resident) = self.absent(&target, MAX_LOOKED_AT);
            let (time, report, kills) = (frame.time, None, Vec::new());
            self.feed(Input::Memory(MemoryLook { time, target, gone, resident, report, kills }));
        }
    }

    /// The pages of a target that are taken to be in use and are not, among the first so many.
    fn absent(&mut self, target: &Target, at_most: usize) -> Vec<(u32, Vec<u64>)> {
        let window = self.flight.window();
        let mut pages = window.resident_pages(&|owner| target.holds(owner.tgid, &owner.cgroup));
        let mut room = at_most;
        for (_, addresses) in &mut pages {
            addresses.truncate(room);
            room -= addresses.len();
        }
        self.live.absent_pages(pages)
    }

    /// The kernel kills a process. It has milliseconds to live: what is known of it later has to be
    /// read now.
    pub(super) fn killed(&mut self, attributed: &Attributed) {
        let (pid, time) = (attributed.observation.tgid, attributed.observation.time);
        let Some(cgroup) = self.cgroup_of_victim(attributed) else {
            warn!("pid {pid} was killed for memory and had gone before its cgroup could be read");
            return;
        };
        let Some(target) = self.live.watched.target_of(pid, &cgroup) else { return };
        let report = self.reader.memory_report(&target);
        let comm = fs::read_to_string(Path::new(PROC).join(pid.to_string()).join("comm"))
            .map(|comm| comm.trim_end().to_owned())
            .unwrap_or_default();
        info!("[Holmes] pprof oom, victim : {pid} ({comm}), target : {target}");
        let victim = OomVictim { pid, comm, time, kernel: None };
        let kill = OomKill { target, victim, report };
        self.tap.write(&Input::OomKill(kill.clone()));
        if let Err(reason) = self.flight.killed(kill) {
            warn!("no incident of the kill of pid {pid} is cut: {reason}");
        }
    }

    /// The path of a victim's cgroup: as the probe saw it, as the process itself shows it, or as its
    /// memory was known before.
    fn cgroup_of_victim(&self, attributed: &Attributed) -> Option<String> {
        if attributed.cgroup.id != CgroupId(0) && !attributed.cgroup.path.is_empty() {
            return Some(attributed.cgroup.path.clone());
        }
        let pid = attributed.observation.tgid;
        self.live.watched.cgroup_of(pid, Path::new(PROC)).or_else(|| {
            self.flight.window().owner_of_pages(pid).map(|owner| owner.cgroup.path.clone())
        })
    }
}
