//! Kills on a made-up timeline: which incidents come of them, and whose memory they show.

use std::time::Duration;

use holmes_common::record::flag;

use super::super::recorder::SETTLE;
use super::super::tests::start;
use super::super::{Incident, Input, MemoryLook};
use super::*;
use crate::collect::{Memory, What};
use crate::process::Attributed;
use crate::window::testing::Process;

/// The recorder starts so long after the clock's zero.
const START_MS: u64 = 1_000_000;

const MIB: u64 = 1 << 20;

fn at(ms: u64) -> Nanos {
    Nanos((START_MS + ms) * 1_000_000)
}

fn cgroup(path: &str) -> Target {
    Target::Cgroup { path: path.to_owned(), container: None }
}

fn victim(pid: u32, ms: u64) -> OomVictim {
    OomVictim { pid, comm: format!("comm-{pid}"), time: at(ms), kernel: None }
}

fn kill(path: &str, pid: u32, ms: u64) -> OomKill {
    let report = Some(MemoryReport { processes: 2, ..MemoryReport::default() });
    OomKill { target: cgroup(path), victim: victim(pid, ms), report }
}

/// A MiB that a process touches.
fn touches(process: &Process, ms: u64, page: u64) -> Attributed {
    let what = What::Fault { address: page << 20, bytes: MIB, memory: Memory::Anonymous };
    process.does(process.tgid, START_MS + ms, &[0x1001], what)
}

/// The end of a process's last thread.
fn ends(process: &Process, ms: u64) -> Attributed {
    let mut end = process.does(process.tgid, START_MS + ms, &[], What::Exit);
    end.observation.flags = flag::LAST_THREAD;
    end
}

/// MiB in use, by the process that touched them.
fn in_use(incident: &Incident, pid: u32) -> u64 {
    let cut = incident.cuts.iter().find(|cut| cut.stem == "memory").map(|cut| &cut.cut);
    let samples = cut.map(|cut| cut.samples.as_slice()).unwrap_or_default();
    let of_pid = samples.iter().filter(|sample| sample.owner.tgid == pid);
    of_pid.map(|sample| sample.values[3] as u64 / MIB).sum()
}

fn pids(incident: &Incident) -> Vec<u32> {
    incident.victims.iter().map(|victim| victim.pid).collect()
}

/// All that is open, cut.
fn settled(flight: &mut FlightRecorder, ms: u64) -> Vec<Incident> {
    flight.tick(at(ms).plus(SETTLE))
}

#[test]
fn a_kill_is_an_incident_that_ends_with_it() {
    let mut flight = FlightRecorder::new(start());
    let app = Process::new(7, "/app");
    for second in 0..10 {
        flight.observe(touches(&app, second * 1_000, second));
    }
    assert!(flight.opens(&cgroup("/app"), at(9_400)));
    assert_eq!(flight.killed(kill("/app", 7, 9_400)), Ok(()));
    assert!(!flight.opens(&cgroup("/app"), at(9_400)) && flight.opens(&cgroup("/b"), at(9_400)));
    assert_eq!(settled(&mut flight, 9_399).len(), 0);
    let incidents = settled(&mut flight, 9_400);
    let [incident] = incidents.as_slice() else { panic!("{incidents:?}") };
    assert_eq!((incident.reason, incident.signal, incident.kind()), (Reason::Oom, None, "oom"));
    assert_eq!((incident.trigger, incident.end), (at(9_400), at(9_400)));
    assert_eq!((pids(incident), in_use(incident, 7)), (vec![7], 10));
    assert_eq!(incident.memory.as_ref().map(|report| report.processes), Some(2));
    assert!(flight.opens(&cgroup("/app"), at(9_400)), "it is closed");
    assert_eq!(flight.totals().captures.get("oom"), Some(&1));
}

/// A victim is gone some milliseconds after the kernel chose it, and its end is noticed before the
/// incident is cut.
#[test]
fn memory_is_in_use_as_of_the_kill() {
    let mut flight = FlightRecorder::new(start());
    let (app, neighbour, before) =
        (Process::new(7, "/app"), Process::new(8, "/app"), Process::new(9, "/app"));
    for page in 0..20 {
        flight.observe(touches(&app, 100 + page, page));
    }
    flight.observe(touches(&neighbour, 200, 1));
    flight.observe(touches(&before, 300, 1));
    flight.observe(ends(&before, 1_000));
    assert_eq!(flight.killed(kill("/app", 7, 2_000)), Ok(()));
    flight.observe(ends(&app, 2_010));
    let incidents = settled(&mut flight, 2_000);
    assert_eq!([7, 8, 9].map(|pid| in_use(&incidents[0], pid)), [20, 1, 0]);
}

#[test]
fn kills_that_follow_at_once_share_the_incident_with_their_memory() {
    let mut flight = FlightRecorder::new(start());
    let (one, other) = (Process::new(7, "/app"), Process::new(8, "/app"));
    flight.observe(touches(&one, 100, 1));
    assert_eq!(flight.killed(kill("/app", 7, 1_000)), Ok(()));
    flight.observe(ends(&one, 1_010));
    // What the second one takes it takes after the first one's end.
    for page in 0..5 {
        flight.observe(touches(&other, 1_020 + page, page));
    }
    assert!(!flight.opens(&cgroup("/app"), at(1_500)));
    assert_eq!(flight.killed(kill("/app", 8, 1_500)), Ok(()));
    assert_eq!(flight.killed(kill("/elsewhere", 10, 1_500)), Ok(()));
    // Too late for the first one's incident.
    assert_eq!(flight.killed(kill("/app", 9, 1_501)), Ok(()));
    assert_eq!(settled(&mut flight, 1_499).len(), 0);
    let incidents = settled(&mut flight, 1_501);
    assert_eq!(incidents.iter().map(pids).collect::<Vec<_>>(), [vec![7, 8], vec![10], vec![9]]);
    assert_eq!((incidents[0].trigger, incidents[0].end), (at(1_000), at(1_500)));
    assert_eq!([7, 8].map(|pid| in_use(&incidents[0], pid)), [1, 5]);
}

#[test]
fn a_victim_is_named_once() {
    let mut flight = FlightRecorder::new(start());
    for ms in [1_000, 1_001, 1_300, 1_600] {
        assert_eq!(flight.killed(kill("/app", 7, ms)), Ok(()));
        assert!(flight.is_victim(7) && !flight.is_victim(8));
    }
    let incidents = settled(&mut flight, 2_000);
    assert_eq!(incidents.iter().map(pids).collect::<Vec<_>>(), [vec![7]]);
    assert!(!flight.is_victim(7));
}

#[test]
fn victims_are_bounded_and_the_rest_counted() {
    let mut flight = FlightRecorder::new(start());
    let killed = |pid: u32| flight.killed(kill("/app", pid, 1_000 + u64::from(pid)));
    let refused: Vec<_> = (1..=70).map(killed).filter(Result::is_err).collect();
    assert_eq!(refused, [Err(Refused::Victims); 6]);
    assert_eq!(flight.totals().captures.get("victims_full"), Some(&6));
    let incidents = settled(&mut flight, 2_000);
    assert_eq!(pids(&incidents[0]), (1..=MAX_VICTIMS as u32).collect::<Vec<_>>());
    assert_eq!(incidents[0].end, at(1_070), "it reaches to the last kill all the same");
}

#[test]
fn the_hours_budget_bounds_incidents_and_not_victims() {
    let mut start = start();
    start.capture.rules.max_incidents_per_hour = 1;
    let mut flight = FlightRecorder::new(start);
    assert_eq!(flight.killed(kill("/a", 1, 1_000)), Ok(()));
    assert_eq!(flight.killed(kill("/b", 2, 1_001)), Err(Refused::Budget));
    assert_eq!(flight.killed(kill("/a", 3, 1_002)), Ok(()));
    assert_eq!(flight.totals().captures.get("budget"), Some(&1));
    let incidents = settled(&mut flight, 2_000);
    assert_eq!(incidents.iter().map(pids).collect::<Vec<_>>(), [vec![1, 3]]);
}

#[test]
fn the_kernels_words_go_to_their_victim() {
    let mut flight = FlightRecorder::new(start());
    assert_eq!(flight.killed(kill("/app", 7, 1_000)), Ok(()));
    assert_eq!(flight.killed(kill("/app", 8, 1_100)), Ok(()));
    let due = at(1_100).plus(SETTLE);
    assert!(flight.looks_due(Nanos(due.0 - 1)).is_empty());
    let looks = flight.looks_due(due);
    // The kernel is taking their memory away: nobody is to look for it.
    assert_eq!((looks.len(), looks[0].residency, &looks[0].victims[..]), (1, false, &[7, 8][..]));
    let words = |pid| KernelKill { pid, anon_bytes: MIB, ..KernelKill::default() };
    flight.accept(Input::Memory(MemoryLook {
        time: due,
        target: cgroup("/app"),
        gone: Vec::new(),
        resident: Vec::new(),
        report: Some(MemoryReport::default()),
        holders: Vec::new(),
        kills: vec![words(9), words(8)],
    }));
    let incidents = settled(&mut flight, 1_100);
    let said = incidents[0].victims.iter().map(|victim| victim.kernel.clone());
    assert_eq!(said.collect::<Vec<_>>(), [None, Some(words(8))]);
    let neighbours = incidents[0].memory.as_ref().map(|report| report.processes);
    assert_eq!(neighbours, Some(2), "as they were at the kill");
}

/// A kill just before the recorder ends is not lost.
#[test]
fn the_recorders_end_cuts_what_is_open() {
    let mut flight = FlightRecorder::new(start());
    assert_eq!(flight.killed(kill("/app", 7, 1_000)), Ok(()));
    let incidents = flight.accept(Input::End(at(1_100)));
    assert_eq!(incidents.iter().map(pids).collect::<Vec<_>>(), [vec![7]]);
    assert!(incidents[0].end.since(at(1_000)) <= Duration::from_secs(1));
}
