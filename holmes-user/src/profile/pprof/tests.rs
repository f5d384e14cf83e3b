//! What a profile of made-up stacks looks like to its readers: pprof, and our own validator.

use std::process::{Command, Output};

use proptest::prelude::*;

use super::super::testing::{APP, LIBC, Made, cut_strategy, images, made, owner};
use super::super::{decode, validate, write_gz};
use super::*;
use crate::collect::{Nanos, Stack};
use crate::window::{CutSample, Detail, pair};

fn about() -> About {
    let comments = vec!["target: host".to_owned()];
    About {
        start_unix_ns: 1_700_000_000_000_000_000,
        sample_period_ns: 20_408_163,
        memory_interval: 1 << 19,
        comments,
    }
}

fn string(profile: &Profile, id: i64) -> &str {
    &profile.string_table[id as usize]
}

/// A sample as text: functions leaf first, `|`, values, `|`, labels.
fn shown(profile: &Profile, sample: &Sample) -> String {
    let mut frames = Vec::new();
    for &id in &sample.location_id {
        let location = &profile.location[id as usize - 1];
        if location.line.is_empty() {
            frames.push(format!("{:#x}", location.address));
        }
        frames.extend(location.line.iter().map(|line| {
            string(profile, profile.function[line.function_id as usize - 1].name).to_owned()
        }));
    }
    let labels: Vec<String> = sample
        .label
        .iter()
        .map(|label| match label.str {
            0 => format!("{}={}", string(profile, label.key), label.num),
            text => format!("{}={}", string(profile, label.key), string(profile, text)),
        })
        .collect();
    format!("{} | {:?} | {}", frames.join(" < "), sample.value, labels.join(" "))
}

#[test]
fn the_made_cut_as_it_should_be() {
    let Made { cut, symbols } = made();
    let profile = encode(&cut, &symbols, &about());
    assert_eq!(validate::check(&profile), Ok(()));
    let container = "c0ffee".repeat(10);
    let samples: Vec<String> =
        profile.sample.iter().map(|sample| shown(&profile, sample)).collect();
    assert_eq!(
        samples,
        [
            format!(
                "spin < [u8; 4]::run < main | [3, 30] | \
                 pid=10 comm=app cgroup=/app10 container={container}"
            ),
            format!(
                "helper [ext4] < schedule < 0x3000000041f < main | [4, 40] | \
                 pid=10 comm=app cgroup=/app10 container={container}"
            ),
            "[no stack] | [1, 0] | pid=2 comm=idle cgroup=/app2".to_owned(),
            "0x77 | [2, 0] | pid=3 comm=other cgroup=/app3 recorder=holmes-ebpf".to_owned(),
        ]
    );
    let mappings: Vec<_> = profile
        .mapping
        .iter()
        .map(|mapping| {
            let has = [mapping.has_functions, mapping.has_filenames, mapping.has_inline_frames];
            let extent = mapping.memory_limit - mapping.memory_start;
            (string(&profile, mapping.filename), mapping.file_offset, extent, has)
        })
        .collect();
    assert_eq!(
        mappings,
        [
            ("/srv/app", 0x1000, 0x2000, [true, true, true]),
            ("[kernel.kallsyms]", 0, (1 << 63) - 1, [true, false, false]),
            ("/lib/libc.so.6", 0, 0x2000, [false, false, false]),
        ]
    );
    assert_eq!(string(&profile, profile.mapping[2].build_id), "0123456789abcdef");
    assert_eq!(string(&profile, profile.default_sample_type), "cpu");
    assert_eq!(string(&profile, profile.comment[0]), "target: host");
    assert_eq!((profile.period, profile.duration_nanos), (20_408_163, 10_000_000_000));
}

#[test]
fn one_library_at_two_addresses_is_one_location() {
    let shift = 0x1000_0000;
    let [first, second] = images(shift);
    let sample = |image, shift: u64| CutSample {
        owner: owner(10, "app", Some(image), false),
        stack: std::sync::Arc::new(Stack {
            user: [LIBC + shift + 0x10, APP + shift + 0x21].into(),
            kernel: [].into(),
        }),
        detail: Detail::None,
        labels: Vec::new(),
        values: pair([1, 1]),
    };
    let samples = vec![sample(first, 0), sample(second, shift)];
    let (from, to) = (Nanos(0), Nanos(1));
    let cut = Cut { kind: ProfileKind::Cpu, from, to, samples };
    let profile = encode(&cut, &SymbolTable::default(), &about());
    assert_eq!(validate::check(&profile), Ok(()));
    assert_eq!((profile.sample.len(), profile.location.len()), (1, 2));
    assert_eq!(profile.sample[0].value, [2, 2]);
}

#[test]
fn the_hottest_program_comes_first() {
    let [image, _] = images(1 << 30);
    let other = super::super::testing::object(9, "/srv/other", "");
    let mut hot = (*image).clone();
    (hot.number, hot.exe) = (9, "/srv/other".to_owned());
    hot.mappings[0].object = other;
    let sample = |image, count| CutSample {
        owner: owner(10, "app", Some(image), false),
        stack: std::sync::Arc::new(Stack { user: [APP + 1].into(), kernel: [].into() }),
        detail: Detail::None,
        labels: Vec::new(),
        values: pair([count, count]),
    };
    for (counts, first) in [([1, 2], "/srv/other"), ([2, 1], "/srv/app")] {
        let samples = vec![
            sample(image.clone(), counts[0]),
            sample(std::sync::Arc::new(hot.clone()), counts[1]),
        ];
        let (from, to) = (Nanos(0), Nanos(1));
        let cut = Cut { kind: ProfileKind::Cpu, from, to, samples };
        let profile = encode(&cut, &SymbolTable::default(), &about());
        assert_eq!(string(&profile, profile.mapping[0].filename), first);
    }
}

proptest! {
    #[test]
    fn any_cut_makes_a_sound_profile_with_the_same_totals(made in cut_strategy()) {
        let profile = encode(&made.cut, &made.symbols, &about());
        prop_assert_eq!(validate::check(&profile), Ok(()));
        let totals = [0, 1].map(|index| -> i64 {
            profile.sample.iter().map(|sample| sample.value[index]).sum()
        });
        prop_assert_eq!(pair(totals), made.cut.totals());
        let packed = write_gz(&profile);
        prop_assert_eq!(&packed, &write_gz(&encode(&made.cut, &made.symbols, &about())));
        prop_assert_eq!(decode(&packed).unwrap(), profile);
    }
}

fn pprof(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("go").args(["tool", "pprof"]).args(arguments).output();
    output.map_err(|error| eprintln!("not tested: cannot run go: {error}")).ok()
}

#[test]
fn go_tool_pprof_reads_it() {
    let Made { mut cut, symbols } = made();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, profile: &Profile| {
        let path = directory.path().join(name);
        std::fs::write(&path, write_gz(profile)).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let whole = write("cpu.pb.gz", &encode(&cut, &symbols, &about()));
    cut.samples.truncate(1);
    cut.to = Nanos::from_secs(4);
    let base = write("cpu.base.pb.gz", &encode(&cut, &symbols, &about()));
    let run = |arguments: &[&str]| {
        let output = pprof(arguments)?;
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        Some(text)
    };
    let Some(top) = run(&["-top", "-sample_index=samples", &whole]) else {
        return;
    };
    assert!(top.starts_with("File: app\n"), "{top}");
    assert!(top.contains("10 total"), "{top}");
    for function in ["spin (inline)", "[u8; 4]::run", "main", "helper [ext4]", "[libc.so.6]"] {
        assert!(top.lines().any(|line| line.ends_with(function)), "{function} in {top}");
    }
    let raw = run(&["-raw", &whole]).unwrap();
    assert!(raw.contains("pid:[10]") && raw.contains("comm:[app]"), "{raw}");
    assert!(raw.contains("cpu/nanoseconds[dflt]"), "{raw}");
    let base_option = format!("-base={base}");
    let changed = run(&["-top", "-sample_index=samples", &base_option, &whole]).unwrap();
    assert!(changed.contains("8 total"), "{changed}");
    assert!(!changed.lines().any(|line| line.trim().starts_with('-')), "{changed}");
    // Of spin, 3 samples, 2 were before the onset.
    let spin = changed.lines().find(|line| line.ends_with("spin (inline)")).unwrap();
    assert_eq!(spin.split_whitespace().next(), Some("1"), "{changed}");
}
