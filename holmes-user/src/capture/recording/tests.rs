//! A recording that is written, read, cut off, damaged, or made up.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::tests::{cpu_spike, start};
use super::super::{
    FlightRecorder, GoHeapLook, GoroutineLook, Incident, Input, RecordedLine, RecordedName,
};
use super::*;
use crate::collect::{Comm, Nanos, What};
use crate::signals::{MemoryLimit, MemoryUse, Reading, Signal, SignalFrame, Target, Warning};
use crate::window::testing::Process;
use crate::window::{GoroutineSample, HeapNote, HeapSample, Owner, ProcessGoroutines, ProcessHeap};

fn written(inputs: &[Input]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &start()).expect("a vector takes everything");
    for input in inputs {
        writer.write(input).expect("a vector takes everything");
    }
    assert_eq!(writer.left_out(), 0);
    writer.into_inner().expect("a vector takes everything")
}

fn read(bytes: &[u8]) -> (Vec<Input>, Option<ReadError>, bool) {
    let mut reader = Reader::new(bytes).expect("it begins as a recording");
    let (mut inputs, mut error) = (Vec::new(), None);
    for input in &mut reader {
        match input {
            Ok(input) => inputs.push(input),
            Err(found) => error = Some(found),
        }
    }
    (inputs, error, reader.is_truncated())
}

fn incidents(inputs: Vec<Input>) -> Vec<Incident> {
    let mut recorder = FlightRecorder::new(start());
    inputs.into_iter().flat_map(|input| recorder.accept(input)).collect()
}

/// All that an incident says, to compare.
fn text(incidents: &[Incident]) -> String {
    let mut text = String::new();
    for incident in incidents {
        writeln!(text, "{incident:?}").expect("a string takes everything");
    }
    text
}

fn name(address: u64) -> RecordedName {
    let line = RecordedLine { function: "spin".into(), file: "a.c".into(), line: 3 };
    RecordedName { object: Some(1), address, module: String::new(), lines: vec![line] }
}

#[test]
fn what_is_written_drives_a_second_recorder_to_the_same_incidents() {
    let inputs = cpu_spike();
    let bytes = written(&inputs);
    let (again, error, truncated) = read(&bytes);
    assert!(error.is_none() && !truncated, "{error:?}");
    assert_eq!(Reader::new(bytes.as_slice()).expect("a recording").start(), &start());
    let (first, second) = (incidents(inputs), incidents(again.clone()));
    assert_eq!(first.len(), 1);
    assert_eq!(text(&first), text(&second));
    assert_eq!(written(&again), bytes, "and writes the same file");
}

#[test]
fn definitions_are_written_once() {
    let text = String::from_utf8(written(&cpu_spike())).expect("JSON is text");
    assert_eq!(text.matches("\n{\"image\":").count(), 2);
    assert_eq!(text.matches("\n{\"cgroup\":").count(), 2);
}

#[test]
fn every_kind_of_input_comes_back() {
    let app = Process { image: None, ..Process::new(7, "/app") };
    let inputs = vec![
        Input::Observation(app.does(8, 1, &[1, u64::MAX], What::Brk { bytes: 4096, calls: 1 })),
        Input::Signals(SignalFrame {
            time: Nanos(3),
            host_cpu: 0.1 + 0.2,
            readings: vec![Reading {
                target: Target::Process { pid: 5 },
                signal: Signal::Threads,
                value: 1.0 / 3.0,
            }],
            memory: vec![
                MemoryUse { target: Target::Host, bytes: u64::MAX, limit: None },
                MemoryUse {
                    target: Target::Process { pid: 5 },
                    bytes: 1,
                    limit: Some(MemoryLimit { bytes: 2, charged: 3 }),
                },
            ],
        }),
        Input::Counters(Default::default()),
        Input::Clock { monotonic: Nanos(u64::MAX), unix_ns: u64::MAX },
        Input::Goroutines(GoroutineLook {
            time: Nanos(4),
            target: Target::Host,
            processes: vec![ProcessGoroutines {
                owner: Owner {
                    tgid: 7,
                    comm: Comm::from("app".to_owned()),
                    cgroup: app.cgroup.clone(),
                    image: None,
                    recorder: false,
                }
                .into(),
                samples: vec![GoroutineSample {
                    addresses: [1, u64::MAX].into(),
                    labels: vec![("state".into(), "waiting".into())],
                    count: 3,
                }],
            }],
        }),
        Input::GoHeap(GoHeapLook {
            time: Nanos(4),
            target: Target::Host,
            processes: vec![ProcessHeap {
                owner: Owner {
                    tgid: 7,
                    comm: Comm::from("app".to_owned()),
                    cgroup: app.cgroup.clone(),
                    image: None,
                    recorder: false,
                }
                .into(),
                note: HeapNote { rate: 1 << 19, text: "go1.26.0".to_owned() },
                samples: vec![HeapSample {
                    addresses: [1, u64::MAX].into(),
                    size: 1024,
                    values: [2, 2048, 1, i64::MAX],
                }],
            }],
        }),
        Input::Trigger { time: Nanos(4), target: Some(Target::Host) },
        Input::Trigger { time: Nanos(4), target: None },
        Input::Warning {
            time: Nanos(4),
            target: Target::Host,
            what: Warning::Pressure { some_avg10: 0.1 + 0.2 },
        },
        Input::Warning {
            time: Nanos(4),
            target: Target::Process { pid: 5 },
            what: Warning::MemoryMax { events: u64::MAX, held_percent: 1.0 / 3.0 },
        },
        Input::Reload(Box::new(start().capture)),
        Input::Names(vec![name(1)]),
        Input::Tick(Nanos(5)),
        Input::End(Nanos(6)),
    ];
    let (again, error, _) = read(&written(&inputs));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(format!("{inputs:?}"), format!("{again:?}"));
}

#[test]
fn a_cgroup_that_changes_its_path_is_defined_anew() {
    let before = Process::new(7, "/app");
    let mut after = before.clone();
    after.cgroup = Arc::new(crate::process::Cgroup {
        path: "/renamed".to_owned(),
        ..(*before.cgroup).clone()
    });
    let inputs = [&before, &after, &before].map(|it| Input::Observation(it.runs(1, &[1])));
    let (again, _, _) = read(&written(&inputs));
    assert_eq!(format!("{inputs:?}"), format!("{again:?}"));
}

#[test]
fn numbers_that_json_lacks_are_left_out() {
    let reading = Reading { target: Target::Host, signal: Signal::Cpu, value: f64::NAN };
    let frame = SignalFrame {
        time: Nanos(1),
        host_cpu: f64::INFINITY,
        readings: vec![reading],
        memory: vec![],
    };
    let (again, error, _) = read(&written(&[Input::Signals(frame)]));
    assert!(error.is_none(), "{error:?}");
    assert!(matches!(&again[0], Input::Signals(frame) if frame.readings.is_empty()));
}

#[test]
fn a_recording_that_is_cut_off_is_read_up_to_there() {
    let inputs = [1, 2, 3].map(|n| Input::Tick(Nanos(n)));
    let bytes = written(&inputs);
    let (again, error, truncated) = read(&bytes[..bytes.len() - 4]);
    assert!(error.is_none(), "{error:?}");
    assert!(truncated);
    assert_eq!(again.len(), 2);
    let (again, _, truncated) = read(&bytes[..bytes.len() - 1]);
    assert_eq!((again.len(), truncated), (3, false), "only the line's end is missing");
}

#[test]
fn names_are_collected_from_the_whole_file() {
    let many: Vec<_> = (0..2 * NAMES_PER_LINE as u64 + 1).map(name).collect();
    let bytes = written(&[Input::Names(many.clone()), Input::Tick(Nanos(1))]);
    assert_eq!(read_names(bytes.as_slice()).expect("names"), many);
    assert_eq!(read(&bytes).0.len(), 4, "in lines of bounded length");
}

#[track_caller]
fn check_refused(bytes: &[u8], expect: &str) {
    let error = match Reader::new(bytes) {
        Err(error) => error,
        Ok(mut reader) => reader.find_map(Result::err).expect("it should be refused"),
    };
    let error = error.to_string();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn what_is_no_recording_of_this_version_is_refused() {
    let header = b"{\"holmes_recording\":2}\n";
    check_refused(b"", "line 1: this is not a recording");
    check_refused(b"\x7fELF\n", "line 1: this is not a recording");
    check_refused(&vec![b'x'; MAX_LINE_BYTES + 2], "line 1: this is not a recording");
    check_refused(b"{\"holmes_recording\":9}\n", "version 9");
    check_refused(header, "line 2: it should say how the recorder was started");
    check_refused(&[header, &b"{\"tick\":1}\n"[..]].concat(), "line 2: it should say");
}

#[test]
fn a_damaged_line_is_named() {
    let with = |line: &str| [written(&[Input::Tick(Nanos(1))]), line.as_bytes().to_vec()].concat();
    let image = |number: u32, mappings: &str| {
        format!(
            "{{\"image\":{{\"number\":{number},\"tgid\":1,\"start_time\":1,\"exe\":\"\",\
             \"mappings\":[{mappings}]}}}}\n"
        )
    };
    let mapping = |start: u64, end: u64| {
        format!(
            "{{\"start\":{start},\"end\":{end},\"offset\":0,\"object\":{{\"number\":1,\
             \"kind\":\"file\",\"path\":\"\",\"build_id\":\"\"}}}}"
        )
    };
    check_refused(&with("{\"tock\":1}\n"), "line 4: not understood");
    check_refused(&with("\n"), "line 4: not understood");
    check_refused(&with("{\"tick\":-1}\n"), "line 4: not understood");
    check_refused(&with(&("[".repeat(100_000) + "\n")), "line 4: not understood");
    check_refused(&with(&image(3, &mapping(9, 9))), "line 4: the mappings of image 3");
    let overlap = format!("{},{}", mapping(0, 9), mapping(8, 10));
    check_refused(&with(&image(3, &overlap)), "line 4: the mappings of image 3");
    // Found by fuzzing: the writer takes it for the first one.
    let twice = image(3, "") + &image(3, &mapping(8, 9));
    check_refused(&with(&twice), "line 5: it defines image 3");
    let start = String::from_utf8(written(&[])).expect("text");
    let start = start.lines().nth(1).expect("the start");
    check_refused(&with(&format!("{start}\n")), "line 4: the recorder starts a second time");
}

#[test]
fn an_observation_needs_what_it_refers_to() {
    let text = String::from_utf8(written(&cpu_spike())).expect("text");
    let without = |what: &str| {
        let lines = text.lines().filter(|line| !line.starts_with(what));
        lines.fold(String::new(), |all, line| all + line + "\n")
    };
    check_refused(without("{\"image\"").as_bytes(), "refers to image");
    check_refused(without("{\"cgroup\"").as_bytes(), "refers to cgroup");
}

#[test]
fn hostile_sizes_are_refused() {
    let deep = Process::new(7, "/app").runs(1, &vec![1; 5_000]);
    check_refused(&written(&[Input::Observation(deep)]), "frames");
    let long = format!("{{\"tick\":{}1}}\n", " ".repeat(MAX_LINE_BYTES));
    check_refused(&[written(&[]), long.into_bytes()].concat(), "longer than");
}

#[test]
fn a_line_too_long_to_be_read_again_is_left_out() {
    let mut huge = Process::new(7, "/app");
    let mut image = (*huge.image.take().expect("it has one")).clone();
    image.exe = "x".repeat(MAX_LINE_BYTES);
    huge.image = Some(Arc::new(image));
    let mut writer = Writer::new(Vec::new(), &start()).expect("a vector");
    writer.observe(&huge.runs(1, &[1])).expect("a vector");
    assert_eq!(writer.left_out(), 1);
    let bytes = writer.into_inner().expect("a vector");
    let (inputs, error, _) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert!(matches!(&inputs[0], Input::Observation(it) if it.image.is_none()));
}

#[test]
fn definitions_are_forgotten_before_there_are_too_many() {
    let mut writer = Writer::new(Vec::new(), &start()).expect("a vector");
    let process = Process::new(1, "/app");
    let image = process.image.clone().expect("it has one");
    let count = MAX_DEFINITIONS as u32 + 10;
    for number in (0..count).chain(0..3) {
        let image =
            Arc::new(crate::process::Image { number, mappings: Vec::new(), ..(*image).clone() });
        let process = Process { image: Some(image), ..process.clone() };
        writer.observe(&process.runs(1, &[1])).expect("a vector");
    }
    let bytes = writer.into_inner().expect("a vector");
    let mut reader = Reader::new(bytes.as_slice()).expect("a recording");
    let read = reader.by_ref().filter(Result::is_ok).count();
    assert_eq!(read, count as usize + 3);
}

proptest! {
    #[test]
    fn damage_anywhere_is_survived(at in any::<prop::sample::Index>(), byte in any::<u8>(), len in any::<prop::sample::Index>()) {
        let mut bytes = written(&cpu_spike()[..200]);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(len.index(bytes.len()) + 1);
        if let Ok(reader) = Reader::new(bytes.as_slice()) {
            let mut recorder = FlightRecorder::new(reader.start().clone());
            for input in reader.map_while(Result::ok) {
                recorder.accept(input);
            }
            let totals = recorder.totals();
            let lost: u64 = totals.samples.lost.values().sum();
            prop_assert_eq!(totals.samples.taken, totals.samples.reported + lost);
        }
    }
}
