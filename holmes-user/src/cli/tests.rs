//! The command line, from arguments to settings.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::kernel::OptionalProbe;
use crate::settings::{
    NameSettings, RecordEvent, RecordFormat, RuleChange, Tunables, WindowSettings,
};

fn surroundings() -> Surroundings {
    Surroundings { stdout_is_terminal: false, now: SystemTime::UNIX_EPOCH }
}

/// Arguments separated by blanks.
fn parse_line(line: &str) -> Result<Command, UsageError> {
    let arguments = std::iter::once("holmes-ebpf").chain(line.split_whitespace());
    parse_from(arguments, &surroundings())
}

fn run(line: &str) -> RecorderSettings {
    match parse_line(line) {
        Ok(Command::Run(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn nothing_is_the_whole_host_with_the_defaults() {
    let settings = run("");
    assert_eq!(
        settings,
        RecorderSettings {
            probes: ProbeSettings {
                watch: Watch::Host,
                frequency: 49,
                ring_bytes: 4 << 20,
                unwind_rows: 4 << 20,
                without: Vec::new(),
                fault_interval: 512 << 10,
                copy_stacks: false,
                allocation_interval: None,
                probe_log: false,
            },
            window: WindowSettings::default(),
            names: NameSettings::default(),
            tunables: Tunables::default(),
            dump_dir: "/var/lib/holmes".into(),
            listen: Some("127.0.0.1:8731".parse().unwrap()),
            record_input: None,
            quiet: false,
            reload: None,
        }
    );
}

#[test]
fn every_flag_arrives() {
    let settings = run("--cgroup /a --cgroup b --rule cpu=min:1 --rule memory=off --cpu-max 90 \
         --max-incidents-per-hour 7 --interval 200ms --lookback 20s --after 5s --dump-dir d \
         --retention-bytes 1MiB --retention-age 2h --listen off -F 99 --window 60s \
         --window-bytes 2MiB --window-stacks 10 --ring-bytes 5000 --unwind-bytes 8MiB --memory-interval 64KiB \
         --without oom --without memory --record-input f \
         --probe-log -q");
    assert_eq!(settings.probes.watch, Watch::Cgroups(vec!["/a".into(), "b".into()]));
    assert_eq!((settings.probes.frequency, settings.probes.ring_bytes), (99, 8192));
    assert_eq!(settings.probes.unwind_rows, 1 << 20);
    assert_eq!(settings.probes.fault_interval, 64 << 10);
    assert_eq!(settings.probes.without, [OptionalProbe::Oom, OptionalProbe::Memory]);
    assert!(settings.probes.probe_log && settings.quiet);
    let tunables = &settings.tunables;
    assert_eq!(tunables.rules.cpu.unwrap().min, 1.0);
    assert_eq!(tunables.rules.memory, None);
    assert_eq!((tunables.rules.cpu_max, tunables.rules.max_incidents_per_hour), (90.0, 7));
    assert_eq!(tunables.interval, Duration::from_millis(200));
    assert_eq!(tunables.lookback, Duration::from_secs(20));
    assert_eq!(tunables.after, Duration::from_secs(5));
    assert_eq!(tunables.retention.max_bytes, 1 << 20);
    assert_eq!(tunables.retention.max_age, Duration::from_secs(7200));
    assert_eq!(settings.dump_dir, Path::new("d"));
    assert_eq!(settings.listen, None);
    assert_eq!(settings.record_input.as_deref(), Some(Path::new("f")));
    assert_eq!(settings.window.span, Duration::from_secs(60));
    assert_eq!((settings.window.max_bytes, settings.window.max_stacks), (2 << 20, 10));
}

#[test]
fn targets_exclude_each_other() {
    assert_eq!(run("--all").probes.watch, Watch::Host);
    assert_eq!(run("-p 1 --pid 2").probes.watch, Watch::Processes(vec![1, 2]));
    for line in ["--all --cgroup /a", "-a -p 1", "-p 1 --cgroup /a", "record -a -p 1"] {
        assert_eq!(parse_line(line).unwrap_err().exit_code(), 2, "{line}");
    }
    let many = "-p 1 ".repeat(MAX_TARGETS as usize);
    run(&many);
    let error = parse_line(&format!("{many} -p 1")).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("257 targets")), (2, true));
}

#[test]
fn bad_values_are_usage_errors_that_name_flag_value_and_range() {
    for (line, parts) in [
        ("--interval 99ms", ["'99ms'", "--interval", "allowed: 100ms to 1h"]),
        ("--interval 5", ["'5'", "--interval", "has no unit: write 5s"]),
        ("-F 0", ["'0'", "--frequency", "from 1 to 1000"]),
        ("-F 1001", ["'1001'", "--frequency", "from 1 to 1000"]),
        ("--ring-bytes 4095", ["'4095'", "--ring-bytes", "4.0 KiB to 1.0 GiB"]),
        ("--window-bytes 1MB", ["'1MB'", "--window-bytes", "1.0 MiB to 64.0 GiB"]),
        ("--rule cpu=min:ten", ["--rule", "`min:ten` is no number", "from 0 to"]),
        ("--rule goroutine=off", ["--rule", "`goroutine` is no signal", "cpu, memory, threads"]),
        ("--listen here", ["'here'", "--listen", "127.0.0.1:8731"]),
        ("--cpu-max NaN", ["'NaN'", "--cpu-max", "from 0 to 100"]),
        ("--pid 0", ["'0'", "--pid", "from 1 to"]),
        ("--lookback 2h", ["'2h'", "--lookback", "0s to 1h"]),
        ("--lookback 2m --window 2m", ["lookback (2m)", "after (10s)", "--window"]),
        ("record -o x.svg", ["`x.svg`", ".pb.gz", ".folded"]),
        ("record -d 0", ["'0'", "--duration", "100ms to 1day"]),
        ("record --allocations", ["--allocations", "one process", "-p PID"]),
        ("record --allocations --cgroup /a", ["--allocations", "one process", "-p PID"]),
        ("record --allocations -p 1 -p 2", ["--allocations", "one process", "-p PID"]),
        ("record --allocations -p 1 -o x.json", ["one after the other", "--format", "folded"]),
        ("record --allocations -p 1 -F 99", ["--allocations", "cannot be used", "--frequency"]),
        ("record -p 1 --allocation-interval 1KiB", ["--allocations", "required", "--help"]),
        (
            "record --allocations -p 1 --allocation-interval 2GiB",
            ["'2GiB'", "--allocation-interval", "1 B to 1.0 GiB"],
        ),
        ("--intervall 5s", ["--intervall", "unexpected argument", "--interval"]),
        ("--quiet record -o -", ["record", "cannot be used with", "[OPTIONS]"]),
    ] {
        let error = parse_line(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{line}: `{part}` is not in:\n{text}");
        }
    }
}

#[test]
fn record_has_its_own_settings() {
    let Ok(Command::Record(settings)) = parse_line(
        "record -p 7 -d 10s -F 99 -o out.folded --ring-bytes 1MiB --unwind-bytes 2MiB -q",
    ) else {
        panic!("record is understood");
    };
    assert_eq!(
        settings,
        RecordSettings {
            probes: ProbeSettings {
                watch: Watch::Processes(vec![7]),
                frequency: 99,
                ring_bytes: 1 << 20,
                unwind_rows: 1 << 18,
                without: vec![
                    OptionalProbe::Memory,
                    OptionalProbe::Faults,
                    OptionalProbe::Oom,
                    OptionalProbe::Waits,
                ],
                fault_interval: 512 << 10,
                copy_stacks: false,
                allocation_interval: None,
                probe_log: false,
            },
            names: NameSettings::default(),
            event: RecordEvent::Cpu,
            duration: Duration::from_secs(10),
            output: "out.folded".into(),
            format: RecordFormat::Folded,
            stack_copies: None,
            quiet: true,
        }
    );
    for (line, format) in [
        ("record -o x.perfetto-trace.gz", RecordFormat::Perfetto),
        ("record -e blocked --format chrome -o x", RecordFormat::Chrome),
    ] {
        let Ok(Command::Record(settings)) = parse_line(line) else { panic!("{line}") };
        assert_eq!((settings.format, settings.event), (format, RecordEvent::Timeline));
        assert!(!settings.probes.without.contains(&OptionalProbe::Waits), "{line}");
    }
    let Ok(Command::Record(settings)) = parse_line("record") else {
        panic!("record needs no flag");
    };
    assert_eq!(settings.probes.watch, Watch::Host);
    assert_eq!(settings.duration, Duration::from_secs(30));
    assert_eq!(settings.output, Path::new("holmes-19700101T000000Z.pb.gz"));
}

#[test]
fn replay_check_and_completions_are_understood() {
    let Ok(Command::Replay(settings)) = parse_line("replay f --dump-dir d --rule cpu=off") else {
        panic!("replay is understood");
    };
    assert_eq!(
        (settings.input.as_path(), settings.dump_dir.as_path()),
        (Path::new("f"), Path::new("d"))
    );
    assert_eq!(settings.rules[0].change, RuleChange::Off);
    assert_eq!(parse_line("replay").unwrap_err().exit_code(), 2);
    assert_eq!(parse_line("check").unwrap(), Command::Check { dump_dir: "/var/lib/holmes".into() });
    assert_eq!(parse_line("completions bash").unwrap(), Command::Completions(Shell::Bash));
    let mut script = Vec::new();
    completions(Shell::Bash, &mut script).unwrap();
    assert!(String::from_utf8(script).unwrap().contains("--max-incidents-per-hour"));
}

#[test]
fn help_is_no_error_and_the_short_one_fits_a_screen() {
    for (line, most) in [("-h", 50), ("--help", 400), ("record -h", 40), ("--version", 1)] {
        let error = parse_line(line).unwrap_err();
        assert_eq!(error.exit_code(), 0, "{line}");
        let text = error.to_string();
        assert!(text.lines().count() <= most, "{line}: {} lines\n{text}", text.lines().count());
    }
    let long = parse_line("--help").unwrap_err().to_string();
    for part in ["Examples:", "[rules.cpu]", "SIGHUP", "[default: 60s]", "Exit codes"] {
        assert!(long.contains(part), "{part}");
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_a_reload_reads_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holmes.toml");
    std::fs::write(&path, "interval = \"1s\"\nlookback = \"30s\"\n[rules.cpu]\nmin = 20\n")
        .unwrap();
    let settings = run(&format!("--config {} --interval 2s --rule cpu=abs:70", path.display()));
    assert_eq!(settings.tunables.interval, Duration::from_secs(2));
    assert_eq!(settings.tunables.lookback, Duration::from_secs(30));
    let rule = settings.tunables.rules.cpu.unwrap();
    assert_eq!((rule.min, rule.abs), (20.0, 70.0));

    let reload = settings.reload.unwrap();
    assert_eq!(reload.file(), path);
    std::fs::write(&path, "interval = \"9s\"\nlookback = \"40s\"\nfrequency = 7\n").unwrap();
    let reloaded = reload.run().unwrap();
    assert_eq!(reloaded.tunables.interval, Duration::from_secs(2));
    assert_eq!(reloaded.tunables.lookback, Duration::from_secs(40));
    assert_eq!(reloaded.needs_restart, ["frequency"]);

    std::fs::write(&path, "lookback = 40").unwrap();
    let error = reload.run().unwrap_err();
    assert!(error.contains("holmes.toml:1:12: `lookback = 40` has no unit"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = reload.run().unwrap_err();
    assert!(error.contains("cannot read") && error.contains("No such file"), "{error}");
}

#[test]
fn a_bad_file_at_start_is_a_usage_error() {
    let error = parse_line("--config /nonexistent/holmes.toml").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = describe(&error);
    assert!(text.starts_with("error: cannot read the configuration file"), "{text}");
    assert!(text.contains("because: No such file or directory"), "{text}");
}

proptest::proptest! {
    #[test]
    fn no_arguments_break_the_parser(
        words in proptest::collection::vec("--?[a-z-]{0,12}|record|check|\\PC{0,10}|cpu=[a-z:0-9,]{0,9}", 0..6),
    ) {
        let arguments = std::iter::once("holmes-ebpf".to_owned()).chain(words);
        if let Err(error) = parse_from(arguments, &surroundings()) {
            proptest::prop_assert!(matches!(error.exit_code(), 0 | 2));
        }
    }
}

#[test]
fn allocations_of_one_process() {
    let interval = |line: &str| match parse_line(line).unwrap() {
        Command::Record(settings) => settings.probes.allocation_interval,
        other => panic!("{other:?}"),
    };
    assert_eq!(interval("record -p 7"), None);
    assert_eq!(interval("record --allocations -p 7"), Some(512 << 10));
    assert_eq!(interval("record --allocations -p 7 --allocation-interval 1"), Some(1));
}
