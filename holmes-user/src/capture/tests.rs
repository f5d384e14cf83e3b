//! The flight recorder as a whole: scenarios on made-up observations, second by second.

mod memory;
mod times;

use std::time::Duration;

use super::*;
use crate::collect::{Memory, Nanos, What};
use crate::rules::{Rule, RuleSet};
use crate::settings::WindowSettings;
use crate::signals::{Reading, Signal, SignalFrame, Target};
use crate::window::testing::{PERIOD_NS, Process};
use crate::window::{ProfileKind, pair};

/// The recorder starts this long after the clock's zero, at this wall-clock time.
const START_S: u64 = 1_000;
const START_UNIX_NS: u64 = 1_700_000_000_000_000_000;

fn settings() -> CaptureSettings {
    let rule =
        Rule { min: 10.0, diff: 25.0, abs: 80.0, max: 0.0, cooldown: Duration::from_secs(60) };
    CaptureSettings {
        interval: Duration::from_secs(5),
        lookback: Duration::from_secs(30),
        after: Duration::from_secs(10),
        rules: RuleSet {
            cpu: Some(rule),
            memory: Some(rule),
            threads: Some(Rule { min: 20.0, abs: 1000.0, ..rule }),
            goroutines: None,
            leak: None,
            psi: None,
            cpu_max: 0.0,
            max_incidents_per_hour: 100,
        },
    }
}

pub(super) fn start() -> Start {
    Start {
        time: Nanos::from_secs(START_S),
        unix_ns: START_UNIX_NS,
        sample_period_ns: PERIOD_NS,
        memory_interval: 1 << 19,
        window: WindowSettings::default(),
        capture: settings(),
    }
}

fn cgroup(path: &str) -> Target {
    Target::Cgroup { path: path.to_owned(), container: None }
}

/// A frame with one value of one target, `second` seconds after the start.
fn frame(second: u64, target: &Target, signal: Signal, value: f64) -> Input {
    Input::Signals(SignalFrame {
        time: Nanos::from_secs(START_S + second),
        host_cpu: 50.0,
        readings: vec![Reading { target: target.clone(), signal, value }],
        memory: Vec::new(),
    })
}

/// What happens in one second of a scenario, in order.
fn second(inputs: &mut Vec<Input>, second: u64, of: &Process, samples: u64, stack: &[u64]) {
    for sample in 0..samples {
        let ms = (START_S + second) * 1_000 + 3 + sample * 20;
        inputs.push(Input::Observation(of.runs(ms, stack)));
    }
}

/// Two services, 75 seconds: `/app` idles, and at second 63 begins to spin; a rule fires at 65.
pub(super) fn cpu_spike() -> Vec<Input> {
    let (app, other) = (Process::new(7, "/app/web"), Process::new(8, "/other"));
    let mut inputs = Vec::new();
    for at in 0..80 {
        if at % 5 == 0 {
            let value = if at < 65 { 4.0 } else { 40.0 };
            inputs.push(frame(at, &cgroup("/app"), Signal::Cpu, value));
        }
        inputs.push(Input::Tick(Nanos(Nanos::from_secs(START_S + at).0 + 1)));
        second(&mut inputs, at, &app, 2, &[0x1001]);
        second(&mut inputs, at, &other, 5, &[0x1003]);
        if at >= 63 {
            second(&mut inputs, at, &app, 40, &[0x1002]);
        }
    }
    inputs
}

fn run(recorder: &mut FlightRecorder, inputs: Vec<Input>) -> Vec<Incident> {
    inputs.into_iter().flat_map(|input| recorder.accept(input)).collect()
}

fn cut<'a>(incident: &'a Incident, stem: &str) -> &'a crate::window::Cut {
    let found = incident.cuts.iter().find(|cut| cut.stem == stem);
    &found.unwrap_or_else(|| panic!("no {stem} in {:?}", stems(incident))).cut
}

fn stems(incident: &Incident) -> Vec<&str> {
    incident.cuts.iter().map(|cut| cut.stem.as_str()).collect()
}

/// The count of a stack's leaf address in a cut.
fn count(incident: &Incident, stem: &str, leaf: u64) -> i64 {
    let of_leaf = |it: &&crate::window::CutSample| it.stack.user[0] == leaf;
    cut(incident, stem).samples.iter().filter(of_leaf).map(|it| it.values[0]).sum()
}

/// Seconds after the start.
fn after_start(time: Nanos) -> u64 {
    time.second() - START_S
}

#[test]
fn a_spike_is_caught_with_the_time_before_it() {
    let mut recorder = FlightRecorder::new(start());
    let incidents = run(&mut recorder, cpu_spike());
    let [incident] = incidents.as_slice() else { panic!("{} incidents", incidents.len()) };
    assert_eq!(incident.target, cgroup("/app"));
    assert_eq!(incident.signal, Some(Signal::Cpu));
    assert_eq!(incident.reason, Reason::Diff { average: 4.0 });
    assert_eq!((incident.previous.len(), incident.value), (10, 40.0));
    let times = [incident.start, incident.onset, incident.trigger, incident.end];
    assert_eq!(times.map(after_start), [35, 63, 65, 75]);
    assert_eq!(incident.trigger_unix_ns, START_UNIX_NS + 65_000_000_000);
    assert_eq!(stems(incident), ["cpu", "cpu.base"]);
    assert_eq!(count(incident, "cpu", 0x1001), 40 * 2);
    assert_eq!(count(incident, "cpu", 0x1002), 12 * 40);
    assert_eq!(count(incident, "cpu", 0x1003), 0, "the other cgroup's");
    assert_eq!(count(incident, "cpu.base", 0x1001), 28 * 2, "ends at the onset");
    assert_eq!(count(incident, "cpu.base", 0x1002), 0);
    assert_eq!(incident.losses.reported, 40 * (2 + 5) + 12 * 40);
    assert_eq!(incident.losses.taken, incident.losses.reported);
    assert_eq!(recorder.totals().captures.get("closed"), Some(&1));
    assert_eq!(recorder.totals().decisions.get(&(Signal::Cpu, "fire")), Some(&1));
}

#[test]
fn the_host_includes_everybody() {
    let mut inputs = cpu_spike();
    for input in &mut inputs {
        if let Input::Signals(frame) = input {
            frame.readings[0].target = Target::Host;
        }
    }
    let incidents = run(&mut FlightRecorder::new(start()), inputs);
    assert_eq!(incidents[0].target, Target::Host);
    assert!(count(&incidents[0], "cpu", 0x1003) > 0);
    assert_eq!(after_start(incidents[0].onset), 63, "the other's steady load does not hide it");
}

#[test]
fn a_capture_closes_although_its_target_is_gone() {
    let inputs = cpu_spike().into_iter().filter(|input| match input {
        Input::Signals(frame) => frame.time <= Nanos::from_secs(START_S + 65),
        Input::Observation(it) => it.observation.time < Nanos::from_secs(START_S + 66),
        _ => true,
    });
    let incidents = run(&mut FlightRecorder::new(start()), inputs.collect());
    assert_eq!(incidents.len(), 1);
    assert_eq!(count(&incidents[0], "cpu", 0x1002), 3 * 40);
}

#[test]
fn the_deadline_is_when_the_capture_closes() {
    let mut recorder = FlightRecorder::new(start());
    assert_eq!(recorder.next_deadline(), None);
    let now = Nanos(START_S * 1_000_000_000 + 200_000_000);
    assert_eq!(recorder.trigger(now, None), Ok(()));
    let deadline = recorder.next_deadline().expect("a capture is open");
    assert_eq!(deadline, Nanos::from_secs(START_S + 11).plus(SETTLE));
    assert_eq!(recorder.tick(Nanos(deadline.0 - 1)).len(), 0);
    assert_eq!(recorder.tick(deadline).len(), 1);
    assert_eq!(recorder.next_deadline(), None);
}

#[test]
fn a_manual_incident_has_every_profile_and_ends_its_base_at_the_trigger() {
    let (app, mut recorder) = (Process::new(7, "/app"), FlightRecorder::new(start()));
    for at in 0..20 {
        let ms = (START_S + at) * 1_000 + 1;
        recorder.observe(app.runs(ms, &[1]));
        recorder.observe(app.does(7, ms, &[2], What::Mmap { bytes: 4096, calls: 1 }));
        recorder.observe(app.does(7, ms, &[3], What::NewThread { tid: 100 + at as u32 }));
    }
    recorder.accept(Input::Trigger { time: Nanos::from_secs(START_S + 15), target: None });
    let incidents = recorder.accept(Input::End(Nanos::from_secs(START_S + 20)));
    let incident = &incidents[0];
    assert_eq!((incident.signal, incident.rule, incident.reason), (None, None, Reason::Manual));
    assert_eq!(
        stems(incident),
        [
            "cpu",
            "cpu.base",
            "mmap",
            "mmap.base",
            "threads",
            "threads.base",
            "memory",
            "memory.base",
            "blocked",
            "blocked.base"
        ]
    );
    let times = [incident.start, incident.onset, incident.trigger, incident.end];
    assert_eq!(times.map(after_start), [0, 15, 15, 20], "not before the start, cut at the end");
    assert_eq!(cut(incident, "mmap").totals(), pair([20, 20 * 4096]));
    assert_eq!(cut(incident, "mmap.base").totals(), pair([15, 15 * 4096]));
    assert_eq!(cut(incident, "threads").totals(), pair([20, 20]));
    assert_eq!(cut(incident, "threads.base").totals(), pair([15, 15]));
}

#[test]
fn threads_and_memory_spikes_bring_their_own_profiles() {
    for (signal, stem, what) in [
        (Signal::Threads, "threads", What::NewThread { tid: 0 }),
        (Signal::Memory, "memory", What::Fault { address: 0, bytes: 4096, memory: Memory::File }),
    ] {
        let (app, mut inputs) = (Process::new(7, "/app"), Vec::new());
        for at in 0..80 {
            if at % 5 == 0 {
                let value = if at < 60 { 15.0 } else { 70.0 };
                inputs.push(frame(at, &cgroup("/app"), signal, value));
            }
            for n in 0..if (57..60).contains(&at) { 50 } else { 1 } {
                let tid = 1_000 + at as u32 * 50 + n;
                let what = if signal == Signal::Threads { What::NewThread { tid } } else { what };
                let ms = (START_S + at) * 1_000 + 1;
                inputs.push(Input::Observation(app.does(7, ms, &[0x1004], what)));
            }
        }
        let incidents = run(&mut FlightRecorder::new(start()), inputs);
        let incident = &incidents[0];
        let base = format!("{stem}.base");
        let mut expect = vec!["cpu", "cpu.base", stem, &base];
        // What threads wait for says why there are many.
        let other = if signal == Signal::Memory { "mmap" } else { "blocked" };
        let other_base = format!("{other}.base");
        expect.extend([other, &other_base]);
        assert_eq!(stems(incident), expect);
        assert_eq!(after_start(incident.onset), 57, "{signal:?}");
        assert_eq!(count(incident, stem, 0x1004), 27 + 3 * 50 + 10, "{signal:?}");
        assert_eq!(count(incident, &format!("{stem}.base"), 0x1004), 27, "{signal:?}");
    }
}

#[test]
fn without_a_series_the_onset_is_the_last_quiet_reading() {
    let mut inputs = Vec::new();
    for at in (0..90).step_by(5) {
        let value = if at < 65 { 15.0 } else { 70.0 };
        inputs.push(frame(at, &cgroup("/app"), Signal::Memory, value));
    }
    let incidents = run(&mut FlightRecorder::new(start()), inputs);
    assert_eq!(after_start(incidents[0].onset), 60);
}

#[test]
fn captures_under_way_are_bounded() {
    let mut start = start();
    start.capture.rules.max_incidents_per_hour = 100;
    let mut recorder = FlightRecorder::new(start);
    let now = Nanos::from_secs(START_S + 1);
    for pid in 0..MAX_PENDING as u32 {
        assert_eq!(recorder.trigger(now, Some(Target::Process { pid })), Ok(()));
    }
    assert_eq!(recorder.trigger(now, None), Err(Refused::PendingFull));
    assert_eq!(recorder.totals().captures.get("pending_full"), Some(&1));
    assert_eq!(recorder.finish(now).len(), MAX_PENDING, "stopping cuts them all");
    assert_eq!(recorder.finish(now).len(), 0);
}

#[test]
fn triggers_by_hand_are_within_the_hourly_budget() {
    let mut start = start();
    start.capture.rules.max_incidents_per_hour = 2;
    let mut recorder = FlightRecorder::new(start);
    let at = |minutes: u64| Nanos::from_secs(START_S + 60 * minutes);
    assert_eq!(recorder.trigger(at(0), None), Ok(()));
    assert_eq!(recorder.trigger(at(1), None), Ok(()));
    assert_eq!(recorder.trigger(at(59), None), Err(Refused::Budget));
    assert_eq!(recorder.totals().captures.get("budget"), Some(&1));
    assert_eq!(recorder.trigger(at(60), None), Ok(()), "the first is an hour old");
}

#[test]
fn a_second_rule_of_the_same_target_is_an_incident_of_its_own() {
    let mut inputs = cpu_spike();
    for input in &mut inputs {
        if let Input::Signals(frame) = input {
            let mut second = frame.readings[0].clone();
            second.signal = Signal::Memory;
            frame.readings.push(second);
        }
    }
    let incidents = run(&mut FlightRecorder::new(start()), inputs);
    let signals: Vec<_> = incidents.iter().map(|incident| incident.signal).collect();
    assert_eq!(signals, [Some(Signal::Cpu), Some(Signal::Memory)]);
}

#[test]
fn a_reload_changes_the_rules_and_keeps_the_open_captures() {
    let mut inputs = cpu_spike();
    let off = CaptureSettings {
        rules: RuleSet { cpu: None, ..settings().rules },
        lookback: Duration::from_secs(300),
        ..settings()
    };
    let fired = inputs.iter().position(
        |it| matches!(it, Input::Signals(frame) if frame.time == Nanos::from_secs(START_S + 65)),
    );
    let fired = fired.expect("the scenario has this frame");
    inputs.insert(fired + 1, Input::Reload(Box::new(off.clone())));
    let mut recorder = FlightRecorder::new(start());
    let incidents = run(&mut recorder, inputs.clone());
    assert_eq!(incidents.len(), 1, "fired before the reload");
    assert_eq!(after_start(incidents[0].start), 35);
    assert!(recorder.totals().window.span_seconds >= 310, "the window grows with the look-back");
    inputs.swap(fired, fired + 1);
    assert_eq!(run(&mut FlightRecorder::new(start()), inputs).len(), 0, "off before it fires");
}

#[test]
fn the_losses_of_the_span_are_in_the_incident_and_the_sum_holds() {
    let mut inputs = Vec::new();
    for input in cpu_spike() {
        if let Input::Tick(now) = input {
            // One sample lost each second, and a stack that failed.
            let lost = now.second() - START_S;
            let totals =
                [("samples_taken", 999), ("samples_ring_full", lost), ("memory_ring_full", lost)];
            let totals = totals.map(|(name, total)| (name.to_owned(), total)).into();
            inputs.push(Input::Counters(Counters { time: now, totals }));
        }
        inputs.push(input);
    }
    let mut recorder = FlightRecorder::new(start());
    let incidents = run(&mut recorder, inputs);
    let losses = &incidents[0].losses;
    let lost = losses.lost["ring_full"];
    assert!((40..=42).contains(&lost), "{losses:?}");
    assert_eq!(losses.notes["memory_ring_full"], lost);
    assert_eq!(losses.taken, losses.reported + losses.lost.values().sum::<u64>());
    let totals = recorder.totals();
    assert_eq!(totals.samples.lost["ring_full"], 79);
    assert_eq!(totals.samples.taken, totals.samples.reported + 79);
    assert_eq!(totals.kernel_taken, 999);
}

#[test]
fn what_the_memory_cap_pushed_out_is_lost_in_the_incident() {
    let small = WindowSettings { max_bytes: 6_000, ..WindowSettings::default() };
    let mut recorder = FlightRecorder::new(Start { window: small, ..start() });
    let incidents = run(&mut recorder, cpu_spike());
    let losses = &incidents[0].losses;
    let evicted = losses.lost["window_evicted"];
    assert!(evicted > 0);
    assert_eq!(losses.taken, 40 * (2 + 5) + 12 * 40, "held or evicted, none is forgotten");
    assert_eq!(losses.reported + evicted, losses.taken);
    let totals = recorder.totals();
    assert_eq!(
        totals.samples.taken,
        totals.samples.reported + totals.samples.lost.values().sum::<u64>()
    );
    let kept = totals.samples_kept();
    assert_eq!(kept.taken, totals.samples.taken);
    assert_eq!(kept.taken, kept.reported + kept.lost.values().sum::<u64>());
    assert!(kept.reported < totals.samples.reported);
}

#[test]
fn values_that_are_no_numbers_are_passed_over_and_counted() {
    let mut recorder = FlightRecorder::new(start());
    for value in [f64::NAN, f64::INFINITY] {
        recorder.accept(frame(1, &Target::Host, Signal::Cpu, value));
    }
    assert_eq!(recorder.totals().decisions.get(&(Signal::Cpu, "unreadable")), Some(&2));
}
