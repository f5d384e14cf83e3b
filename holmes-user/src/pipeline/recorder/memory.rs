//! Looks at the memory of targets: for incidents that are about to be cut, when the kernel has killed a
//! process, and of those that are near their limit.

use std::fs;
use std::path::Path;

use tracing::{info, warn};

use super::super::locks::lock_holders;
use super::{PROC, Recorder};
use crate::capture::{Input, LookWanted, MemoryLook, OomKill, OomVictim};
use crate::collect::{CgroupId, Nanos, clock};
use crate::process::{Attributed, is_within};
use crate::signals::{MemoryReport, Reading, Shortage, Signal, SignalFrame, Target};
use crate::window::Owner;

/// Percent of its limit from which a target's pages are looked at every interval: what the kernel has
/// reclaimed meanwhile must not be held against anybody, and after a kill nobody can look any more.
const NEAR_LIMIT: f64 = 70.0;

/// Pages looked at for that: a few milliseconds of work.
const MAX_LOOKED_AT: usize = 16_384;

/// Pages looked at for one incident: all that is kept of one process. The recorder does nothing else
/// meanwhile, and the ring buffer has room for some seconds.
const MAX_LOOKED_AT_ONCE: usize = 65_536;

/// Pages of processes: by process number, addresses in order.
type Pages = Vec<(u32, Vec<u64>)>;

/// What a look at the pages of a target found.
#[derive(Default)]
struct Looked {
    gone: Pages,
    resident: Vec<(u32, [u64; 2])>,
}

impl Recorder {
    /// Looks where the memory of targets is whose incidents are due then: before the input that cuts
    /// them.
    pub(super) fn look_at_due(&mut self, then: Nanos) {
        let due = self.flight.looks_due(then);
        if due.is_empty() {
            return;
        }
        // What happened before the look belongs before it: a process may have moved or ended.
        self.take_in();
        for wanted in due {
            self.look(wanted);
        }
    }

    fn look(&mut self, wanted: LookWanted) {
        let LookWanted { target, residency, waits, victims } = wanted;
        if waits {
            self.look_at_blocked(&target);
        }
        let time = clock::monotonic();
        let looked = residency.then(|| self.look_at_pages(&target, MAX_LOOKED_AT_ONCE, 0));
        let Looked { gone, resident } = looked.unwrap_or_default();
        let report = residency.then(|| self.reader.memory_report(&target));
        let kills = victims.iter().filter_map(|pid| self.kernel_log.kill_of(*pid)).collect();
        let watched = |owner: &Owner| target.holds(owner.tgid, &owner.cgroup);
        let holders = if waits { lock_holders(self.flight.window(), &watched) } else { Vec::new() };
        let go_heap = report.as_ref().and_then(|report| self.look_at_go_heap(&target, report));
        let look = MemoryLook { time, target, gone, resident, report, holders, kills };
        self.feed(Input::Memory(look));
        if let Some(go_heap) = go_heap {
            self.feed(Input::GoHeap(go_heap));
        }
    }

    /// The same as [`Self::look_at_blocked`] for all incidents under way: when the probes are detached nobody can
    /// look any more.
    pub(super) fn look_at_all_blocked(&mut self) {
        let due = self.flight.looks_due(Nanos(u64::MAX));
        for LookWanted { target, .. } in due.into_iter().filter(|wanted| wanted.waits) {
            self.look_at_blocked(&target);
        }
    }

    /// Looks at the threads of a target that sleep, and takes those in that the window does not know.
    fn look_at_blocked(&mut self, target: &Target) {
        let Self { live, flight, .. } = self;
        let found = live.blocked(flight.window(), &|tgid, cgroup| target.holds(tgid, cgroup));
        if found.is_empty() {
            return;
        }
        let mut asleep = Vec::new();
        self.observe(|live, sink| asleep = live.still_blocked(found, sink));
        self.observe(|_, sink| asleep.into_iter().for_each(sink));
        self.feed(Input::Counters(self.live.counters(clock::monotonic())));
    }

    /// Looks at pages of one of the targets that are near their limit; another one each time.
    pub(super) fn look_near_limit(&mut self, frame: &SignalFrame) {
        let is_near = |reading: &&Reading| {
            reading.signal == Signal::Memory
                && reading.value >= NEAR_LIMIT
                // A host is always full: of the page cache.
                && reading.target != Target::Host
        };
        let near: Vec<&Target> =
            frame.readings.iter().filter(is_near).map(|reading| &reading.target).collect();
        if near.is_empty() {
            return;
        }
        self.near_limit = self.near_limit.wrapping_add(1);
        let target = near[self.near_limit % near.len()].clone();
        let skipped = (self.near_limit / near.len()).wrapping_mul(MAX_LOOKED_AT);
        let Looked { gone, resident } = self.look_at_pages(&target, MAX_LOOKED_AT, skipped);
        let (time, report, holders, kills) = (frame.time, None, Vec::new(), Vec::new());
        let look = MemoryLook { time, target, gone, resident, report, holders, kills };
        self.feed(Input::Memory(look));
    }

    /// Which pages of a target are taken to be in use and are not, of so many behind so many others.
    /// Those of a process that the kernel is killing are not looked at: it takes them away, and they are
    /// what its incident is about.
    fn look_at_pages(&mut self, target: &Target, at_most: usize, skipped: usize) -> Looked {
        let Self { flight, live, .. } = self;
        let watched = |owner: &Owner| target.holds(owner.tgid, &owner.cgroup);
        let mut pages = flight.window().resident_pages(&watched);
        pages.retain(|(pid, _)| !flight.is_victim(*pid));
        let total: usize = pages.iter().map(|(_, addresses)| addresses.len()).sum();
        let mut behind = skipped.checked_rem(total).unwrap_or_default();
        let mut room = at_most;
        for (_, addresses) in &mut pages {
            let passed = behind.min(addresses.len());
            addresses.drain(..passed);
            behind -= passed;
            addresses.truncate(room);
            room -= addresses.len();
        }
        pages.retain(|(_, addresses)| !addresses.is_empty());
        let mut resident = live.resident_bytes(pages.iter().map(|(tgid, _)| *tgid));
        let mut gone = live.absent_pages(pages);
        // Nor of one that it chose while they were looked at.
        if !gone.is_empty() {
            self.take_in();
            gone.retain(|(pid, _)| !self.flight.is_victim(*pid));
            resident.retain(|(pid, _)| !self.flight.is_victim(*pid));
        }
        Looked { gone, resident }
    }

    /// The kernel kills processes. They have milliseconds to live: what is known of them later has to be
    /// read now, and of all of them before anything that takes longer.
    pub(super) fn killed(&mut self, attributed: &[Attributed]) {
        let seen: Vec<(Target, OomVictim)> =
            attributed.iter().filter_map(|victim| self.victim(victim)).collect();
        for (target, victim) in seen {
            self.take_kill(target, victim);
        }
    }

    /// A cgroup counts kills that no probe has told of, as where the kernel refuses that one. The kernel's
    /// log may say who it was.
    pub(super) fn kills_counted(&mut self, target: &Target, time: Nanos) {
        let Target::Cgroup { path, .. } = target else { return };
        let said = self.kernel_log.kills_of(|cgroup| is_within(cgroup, path));
        if said.is_empty() {
            let unknown = OomVictim { pid: 0, comm: String::new(), time, kernel: None };
            return self.take_kill(target.clone(), unknown);
        }
        for kill in said {
            let (pid, comm) = (kill.pid, kill.comm.clone());
            let victim = OomVictim { pid, comm, time, kernel: Some(kill) };
            self.take_kill(target.clone(), victim);
        }
    }

    fn take_kill(&mut self, target: Target, victim: OomVictim) {
        let OomVictim { pid, time, .. } = victim;
        if self.flight.is_victim(pid) {
            return;
        }
        info!("[Holmes] pprof oom, victim : {pid} ({}), target : {target}", victim.comm);
        let opens = self.flight.opens(&target, time);
        let report = opens.then(|| self.report_of_kill(&target, pid));
        let kill = OomKill { target, victim, report };
        self.tap.write(&Input::OomKill(kill.clone()));
        if let Err(reason) = self.flight.killed(kill) {
            warn!("no incident names the kill of pid {pid}: {reason}");
        }
    }

    /// Where the target's memory is, and who else had some where it ran out.
    fn report_of_kill(&mut self, target: &Target, pid: u32) -> MemoryReport {
        let mut report = self.reader.memory_report(target);
        let limited = match self.kernel_log.shortage_of(pid) {
            None => return report,
            Some(Shortage::Host) => None,
            Some(Shortage::Cgroup(path)) => Some(path),
        };
        let is_own = match (target, &limited) {
            (Target::Host, None) => true,
            (Target::Cgroup { path, .. }, Some(limited)) => is_within(limited, path),
            _ => false,
        };
        report.around = (!is_own).then(|| self.reader.memory_around(limited));
        report
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
