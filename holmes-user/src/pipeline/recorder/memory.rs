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
use crate::window::Owner;

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
        let gone = if residency { self.absent(&target, usize::MAX) } else { Vec::new() };
        let report = residency.then(|| self.reader.memory_report(&target));
        let kills = victims.iter().filter_map(|pid| self.kernel_log.kill_of(*pid)).collect();
        self.feed(Input::Memory(MemoryLook { time, target, gone, report, kills }));
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
            let gone = self.absent(&target, MAX_LOOKED_AT);
            let (time, report, kills) = (frame.time, None, Vec::new());
            self.feed(Input::Memory(MemoryLook { time, target, gone, report, kills }));
        }
    }

    /// The pages of a target that are taken to be in use and are not, among the first so many. Those of
    /// a process that the kernel is killing are not looked at: it takes them away, and they are what
    /// its incident is about.
    fn absent(&mut self, target: &Target, at_most: usize) -> Vec<(u32, Vec<u64>)> {
        let Self { flight, live, .. } = self;
        let watched = |owner: &Owner| target.holds(owner.tgid, &owner.cgroup);
        let mut pages = flight.window().resident_pages(&watched);
        pages.retain(|(pid, _)| !flight.is_victim(*pid));
        let mut room = at_most;
        for (_, addresses) in &mut pages {
            addresses.truncate(room);
            room -= addresses.len();
        }
        let mut absent = live.absent_pages(pages);
        // Nor of one that it chose while they were looked at.
        if !absent.is_empty() {
            self.take_in();
            absent.retain(|(pid, _)| !self.flight.is_victim(*pid));
        }
        absent
    }

    /// The kernel kills processes. They have milliseconds to live: what is known of them later has to be
    /// read now, and of all of them before anything that takes longer.
    pub(super) fn killed(&mut self, attributed: &[Attributed]) {
        let seen: Vec<(Target, OomVictim)> =
            attributed.iter().filter_map(|victim| self.victim(victim)).collect();
        for (target, victim) in seen {
            let OomVictim { pid, time, .. } = victim;
            if self.flight.is_victim(pid) {
                continue;
            }
            info!("[Holmes] pprof oom, victim : {pid} ({}), target : {target}", victim.comm);
            let opens = self.flight.opens(&target, time);
            let report = opens.then(|| self.reader.memory_report(&target));
            let kill = OomKill { target, victim, report };
            self.tap.write(&Input::OomKill(kill.clone()));
            if let Err(reason) = self.flight.killed(kill) {
                warn!("no incident names the kill of pid {pid}: {reason}");
            }
        }
    }

    /// Whose incident a kill is, and who; `None` if it is nobody's.
    fn victim(&self, attributed: &Attributed) -> Option<(Target, OomVictim)> {
        let mut pid = attributed.observation.tgid;
        // Older kernels tell a number alone, which may be a thread's.
        if attributed.cgroup.id == CgroupId(0) {
            pid = process_of(pid).unwrap_or(pid);
        }
        let cgroup = self.cgroup_of_victim(pid, attributed);
        let watched = &self.live.watched;
        let Some(target) = watched.target_of(pid, cgroup.as_deref()) else {
            if cgroup.is_none()
                && !matches!(watched.targets().first(), Some(Target::Process { .. }))
            {
                warn!("pid {pid} was killed for memory, and was gone before its cgroup was read");
            }
            return None;
        };
        let comm = fs::read_to_string(Path::new(PROC).join(pid.to_string()).join("comm"))
            .map(|comm| comm.trim_end().to_owned())
            .unwrap_or_default();
        Some((target, OomVictim { pid, comm, time: attributed.observation.time, kernel: None }))
    }

    /// The path of a victim's cgroup: as the probe saw it, as the process itself shows it, or as its
    /// memory was known before.
    fn cgroup_of_victim(&self, pid: u32, attributed: &Attributed) -> Option<String> {
        if attributed.cgroup.id != CgroupId(0) && !attributed.cgroup.path.is_empty() {
            return Some(attributed.cgroup.path.clone());
        }
        self.live.watched.cgroup_of(pid, Path::new(PROC)).or_else(|| {
            self.flight.window().owner_of_pages(pid).map(|owner| owner.cgroup.path.clone())
        })
    }
}

/// The process that a thread belongs to; `None` if it has gone.
fn process_of(thread: u32) -> Option<u32> {
    let status =
        fs::read_to_string(Path::new(PROC).join(thread.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
