//! Leaks and the kernel's early warnings, from input to incident and through a recording.

use super::super::recording::{Reader, Writer};
use super::*;
use crate::collect::Comm;
use crate::rules::{FiredRule, LeakRule};
use crate::signals::{MemoryLimit, MemoryUse, Warning};
use crate::window::{HeapNote, HeapSample, Owner, ProcessHeap};

fn with_memory_rules() -> Start {
    let leak =
        RuleSet::default().leak.map(|leak| LeakRule { span: Duration::from_secs(60), ..leak });
    let rules = RuleSet { leak, psi: RuleSet::default().psi, ..settings().rules };
    Start { capture: CaptureSettings { rules, ..settings() }, ..start() }
}

/// Two minutes in which `/app` gets a MiB every five seconds, of the 100 that it may have.
fn leak() -> Vec<Input> {
    let app = Process::new(7, "/app/web");
    let mut inputs = Vec::new();
    for at in 0..120 {
        if at % 5 == 0 {
            let bytes = (20 + at / 5) << 20;
            let limit = Some(MemoryLimit { bytes: 100 << 20, charged: bytes });
            inputs.push(Input::Signals(SignalFrame {
                time: Nanos::from_secs(START_S + at),
                host_cpu: 50.0,
                readings: vec![Reading {
                    target: cgroup("/app"),
                    signal: Signal::Memory,
                    value: 20.0 + at as f64 / 5.0,
                }],
                memory: vec![MemoryUse { target: cgroup("/app"), bytes, limit }],
            }));
        }
        inputs.push(Input::Tick(Nanos(Nanos::from_secs(START_S + at).0 + 1)));
        second(&mut inputs, at, &app, 2, &[0x1001]);
    }
    inputs
}

fn warning(at: u64, what: Warning) -> Input {
    Input::Warning { time: Nanos::from_secs(START_S + at), target: cgroup("/app"), what }
}

/// The inputs, through a recording.
fn recorded(inputs: &[Input]) -> Vec<Input> {
    let mut writer = Writer::new(Vec::new(), &with_memory_rules()).unwrap();
    inputs.iter().for_each(|input| writer.write(input).unwrap());
    let bytes = writer.into_inner().unwrap();
    let reader = Reader::new(bytes.as_slice()).unwrap();
    assert_eq!(reader.start(), &with_memory_rules());
    reader.map(Result::unwrap).collect()
}

#[test]
fn a_leak_that_no_other_rule_sees_is_caught_and_again_in_a_replay() {
    let inputs = leak();
    let mut recorder = FlightRecorder::new(with_memory_rules());
    let incidents = run(&mut recorder, inputs.clone());
    let [incident] = incidents.as_slice() else { panic!("{} incidents", incidents.len()) };
    assert_eq!((&incident.target, incident.signal), (&cgroup("/app"), Some(Signal::Leak)));
    assert!(matches!(incident.rule, Some(FiredRule::Leak(_))));
    assert_eq!(after_start(incident.trigger), 60);
    let Reason::Leak(growth) = incident.reason else { panic!("{:?}", incident.reason) };
    assert_eq!(growth.rate, (1 << 20) as f64 / 5.0);
    assert_eq!((incident.value, growth.seconds_to_limit), (growth.rate, Some(68.0 * 5.0)));
    assert_eq!(incident.previous, [growth.rate; 4]);
    assert_eq!(stems(incident), ["cpu", "cpu.base", "memory", "memory.base", "mmap", "mmap.base"]);
    let decisions = recorder.totals().decisions;
    assert_eq!(decisions.get(&(Signal::Leak, "fire")), Some(&1));
    assert_eq!(decisions.get(&(Signal::Leak, "cooldown")), Some(&11));
    assert_eq!(decisions.get(&(Signal::Memory, "fire")), None);

    let mut again = FlightRecorder::new(with_memory_rules());
    let replayed = run(&mut again, recorded(&inputs));
    assert_eq!(format!("{incidents:?}"), format!("{replayed:?}"));
}

/// A look at the heap profile that a Go program of this target keeps of itself.
fn go_heap(at: u64, target: &str, bytes: i64) -> Input {
    let of = Process::new(7, target);
    let owner = Owner {
        tgid: 7,
        comm: Comm::from("app".to_owned()),
        cgroup: of.cgroup,
        image: None,
        recorder: false,
    };
    let samples = [(&[0x1001, 0x2001][..], bytes), (&[0x3001][..], 1)];
    let samples = samples.map(|(addresses, bytes)| HeapSample {
        addresses: addresses.into(),
        size: 64,
        values: [9, 9 * bytes, 1, bytes],
    });
    Input::GoHeap(GoHeapLook {
        time: Nanos::from_secs(START_S + at),
        target: cgroup(target),
        processes: vec![ProcessHeap {
            owner: owner.into(),
            note: HeapNote { rate: 1 << 19, text: "go1.26.0".to_owned() },
            samples: samples.into(),
        }],
    })
}

#[test]
fn the_heap_profiles_of_go_programs_are_those_of_the_last_look() {
    let mut inputs = leak();
    let cut = inputs.iter().position(|it| matches!(it, Input::Tick(at) if after_start(*at) >= 68));
    let looks = [go_heap(66, "/app", 100), go_heap(67, "/app", 200), go_heap(67, "/other", 300)];
    inputs.splice(cut.unwrap()..cut.unwrap(), looks);
    let mut recorder = FlightRecorder::new(with_memory_rules());
    let incidents = run(&mut recorder, inputs.clone());
    let [incident] = incidents.as_slice() else { panic!("{} incidents", incidents.len()) };
    let heap = incident.cuts.iter().find(|cut| cut.stem == "goheap").unwrap();
    assert_eq!(heap.cut.totals(), [18, 9 * 201, 2, 201]);
    assert_eq!(incident.go_heaps.len(), 1);
    let mut again = FlightRecorder::new(with_memory_rules());
    let replayed = run(&mut again, recorded(&inputs));
    assert_eq!(format!("{incidents:?}"), format!("{replayed:?}"));
    // What is about the CPU is not about that.
    let mut inputs = cpu_spike();
    inputs.insert(inputs.len() - 30, go_heap(70, "/app", 100));
    let incidents = run(&mut FlightRecorder::new(start()), inputs);
    assert!(!incidents.is_empty() && incidents.iter().all(|it| it.go_heaps.is_empty()));
}

#[test]
fn early_warnings_are_incidents_of_memory_within_their_cooldown() {
    let high = |held_percent| Warning::MemoryHigh { events: 3, held_percent };
    let mut inputs = leak();
    inputs.retain(
        |input| !matches!(input, Input::Signals(frame) if frame.time.second() > START_S + 30),
    );
    // Files at the mark are no shortage.
    inputs.push(warning(130, high(49.0)));
    inputs.push(warning(131, high(f64::NAN)));
    inputs.push(warning(132, Warning::Pressure { some_avg10: 33.0 }));
    inputs.push(warning(133, high(99.0)));
    inputs.push(Input::Tick(Nanos::from_secs(START_S + 200)));
    inputs.push(warning(800, high(99.0)));
    inputs.push(Input::Tick(Nanos::from_secs(START_S + 900)));
    let mut recorder = FlightRecorder::new(with_memory_rules());
    let incidents = run(&mut recorder, inputs.clone());
    let reasons: Vec<_> = incidents.iter().map(|incident| incident.reason).collect();
    assert_eq!(
        reasons,
        [Reason::Warned(Warning::Pressure { some_avg10: 33.0 }), Reason::Warned(high(99.0))]
    );
    assert!(incidents.iter().all(|incident| incident.signal == Some(Signal::Memory)));
    assert_eq!((incidents[0].value, incidents[0].previous.len()), (26.0, 7));
    let decisions = recorder.totals().decisions;
    let count = |decision| decisions.get(&(Signal::Psi, decision)).copied().unwrap_or(0);
    assert_eq!([count("fire"), count("quiet"), count("cooldown")], [2, 2, 1]);

    let mut again = FlightRecorder::new(with_memory_rules());
    let replayed = run(&mut again, recorded(&inputs));
    assert_eq!(format!("{incidents:?}"), format!("{replayed:?}"));
}

#[test]
fn a_recording_of_before_these_rules_has_none() {
    let mut start = with_memory_rules();
    start.capture.rules.leak = None;
    start.capture.rules.psi = None;
    let text = String::from_utf8(Writer::new(Vec::new(), &start).unwrap().into_inner().unwrap());
    let old = text.unwrap().replace("\"leak\":null,\"psi\":null,", "");
    assert!(!old.contains("leak") && !old.contains("psi"), "{old}");
    let frame = "{\"signals\":{\"time\":3,\"host_cpu\":1.0,\"readings\":[]}}\n";
    let old = old + frame;
    let mut reader = Reader::new(old.as_bytes()).unwrap();
    assert_eq!(reader.start(), &start);
    assert!(matches!(reader.next(), Some(Ok(Input::Signals(frame))) if frame.memory.is_empty()));
}
