//! Behaviour of the configuration file's text.

use super::*;
use crate::kernel::OptionalProbe;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The problems of a text, one line each.
fn problems(text: &str) -> Vec<String> {
    parse(text).expect_err("the text is wrong").iter().map(Problem::to_string).collect()
}

#[test]
fn the_documented_file_is_understood() {
    let layer = parse(
        r#"
        interval = "5s"
        lookback = "60s"          # kept before the trigger
        after = "10s"             # recorded after it
        dump_dir = "/var/lib/holmes"
        retention = { max_bytes = "2GiB", max_age = "14d" }
        [rules.cpu]
        min = 10
        diff = 25
        abs = 80
        cooldown = "1m"
        "#,
    )
    .unwrap();
    let defaults = Layer::default().resolve(false).unwrap();
    assert!(layer.interval.is_some() && layer.retention_age == Some(secs(14 * 24 * 3600)));
    assert_eq!(layer.resolve(false).unwrap(), defaults);
}

#[test]
fn every_key_arrives() {
    let layer = parse(
        r#"
        interval = "1s"
        lookback = "2s"
        after = "3s"
        dump_dir = "/d"
        cpu_max = 90
        max_incidents_per_hour = 5
        listen = "off"
        frequency = 99
        cgroup = ["/a", "b"]
        window = "60s"
        window_bytes = "2MiB"
        window_stacks = 1_000
        ring_bytes = 5000
        unwind_bytes = "2MiB"
        memory_interval = "1MiB"
        without = ["threads", "faults"]
        retention.max_bytes = 0x1000
        retention.max_age = "1h"
        debug_dirs = ["/g", "h"]
        debuginfod = "https://d.example/"
        debug_cache = "/c"
        rules.memory = "off"
        [rules.threads]
        min = 1.5
        max = 10000
        [rules.leak]
        rate = "2MiB/h"
        for = "30m"
        within = "2d"
        cooldown = "3h"
        [rules.psi]
        stall = "400ms"
        window = "4s"
        min = 60
        cooldown = "5m"
        "#,
    )
    .unwrap();
    assert_eq!(
        layer,
        Layer {
            watch: Some(Watch::Cgroups(vec!["/a".into(), "b".into()])),
            interval: Some(secs(1)),
            lookback: Some(secs(2)),
            after: Some(secs(3)),
            dump_dir: Some("/d".into()),
            retention_bytes: Some(4096),
            retention_age: Some(secs(3600)),
            listen: Some(None),
            frequency: Some(99),
            window: Some(secs(60)),
            window_bytes: Some(2 << 20),
            window_stacks: Some(1000),
            ring_bytes: Some(8192),
            unwind_rows: Some(1 << 18),
            memory_interval: Some(1 << 20),
            without: Some(vec![OptionalProbe::Threads, OptionalProbe::Faults]),
            cpu_max: Some(90.0),
            max_incidents_per_hour: Some(5),
            debug_dirs: Some(vec!["/g".into(), "h".into()]),
            debuginfod: Some("https://d.example/".to_owned()),
            debug_cache: Some("/c".into()),
            rules: vec![
                rule_text::parse("leak=rate:2MiB/h,for:30m,within:2d,cooldown:3h").unwrap(),
                rule_text::parse("memory=off").unwrap(),
                rule_text::parse("psi=stall:400ms,window:4s,min:60,cooldown:5m").unwrap(),
                rule_text::parse("threads=min:1.5,max:10000").unwrap(),
            ],
        }
    );
    assert_eq!(parse("pid = 7").unwrap().watch, Some(Watch::Processes(vec![7])));
    assert_eq!(parse("all = true").unwrap().watch, Some(Watch::Host));
    assert_eq!(parse("all = false").unwrap().watch, None);
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_nearest_known_one() {
    assert_eq!(
        problems("interval = \"5s\"\n[rules.cpu]\n  mim = 10\n"),
        ["3:3: unknown key `rules.cpu.mim`; known in [rules.cpu]: min, diff, abs, max, cooldown; \
          did you mean `min`?"]
    );
    assert_eq!(
        problems("[rules.cpus]\nmin = 1"),
        [
            "1:8: unknown key `rules.cpus`; known in [rules]: cpu, memory, threads, goroutines, leak, psi; \
          did you mean `cpu`?"
        ]
    );
    assert!(problems("dump-dir = \"/x\"")[0].ends_with("did you mean `dump_dir`?"));
    assert!(
        problems("[rules]\ncpu_max = 90")[0]
            .ends_with("`cpu_max` belongs at the top, before the first [table]")
    );
    assert!(problems("max_age = \"1d\"")[0].ends_with("`max_age` belongs in [retention]"));
    assert!(problems("[cpu]\nmin = 1")[0].ends_with("write [rules.cpu]"));
}

#[test]
fn bad_values_are_named_with_their_place_and_what_is_allowed() {
    for (text, message) in [
        ("interval = 5", "1:12: `interval = 5` has no unit: write 5s or 5ms; allowed: 100ms to 1h"),
        ("interval = \"1ms\"", "1:12: `interval = \"1ms\"` is out of range; allowed: 100ms to 1h"),
        (
            "interval = 0.5",
            "1:12: `interval = 0.5` is a float; wanted: text, as \"5s\"; allowed: 100ms to 1h",
        ),
        (
            "after = \"-5s\"",
            "1:9: `after = \"-5s\"` is no duration: write a number and a unit, as 500ms, 5s or 1m; allowed: 0s to 1h",
        ),
        (
            "\n\n[rules.cpu]\nmin = -1",
            "4:7: `rules.cpu.min = -1` is out of range; allowed: a number from 0 to 1000000000",
        ),
        (
            "rules.cpu.abs = nan",
            "1:17: `rules.cpu.abs = nan` is out of range; allowed: a number from 0 to 1000000000",
        ),
        (
            "rules.cpu.abs = \"80\"",
            "1:17: `rules.cpu.abs = \"80\"` is a string; wanted: a number from 0 to 1000000000, without quotes",
        ),
        (
            "[rules.leak]\nrate = 5",
            "2:8: `rules.leak.rate = 5` is an integer; wanted: text in quotes",
        ),
        (
            "\n[rules.leak]\nrate = \"1MiB\"",
            "3:8: `rules.leak.rate = \"1MiB\"` is no speed: write a size and s, m, h or d, as 1MiB/m or 64KiB/s; allowed: 1.0 KiB/d to 1.0 TiB/s",
        ),
        (
            "rules.leak.within = \"2y\"",
            "1:21: `rules.leak.within = \"2y\"` is out of range; allowed: 0s to 30days",
        ),
        (
            "rules.psi.window = \"100ms\"",
            "1:20: `rules.psi.window = \"100ms\"` is out of range; allowed: 500ms to 10s",
        ),
        (
            "rules.cpu = 3",
            "1:13: `rules.cpu = 3` is an integer; wanted: \"off\", or a table of numbers",
        ),
        (
            "retention.max_bytes = -1",
            "1:23: `retention.max_bytes = -1` is out of range; allowed: 1 B to 1.0 PiB",
        ),
        (
            "retention = \"2GiB\"",
            "1:13: `retention = \"2GiB\"` is a string; wanted: { max_bytes = \"2GiB\", max_age = \"14d\" }",
        ),
        (
            "frequency = 99999999999999999999",
            "1:13: `frequency = 99999999999999999999` is out of range; allowed: a whole number from 1 to 1000",
        ),
        ("listen = 8731", "1:10: `listen = 8731` is an integer; wanted: text in quotes"),
        ("dump_dir = \"\"", "1:12: `dump_dir = \"\"` is empty: give a path"),
        ("cgroup = []", "1:10: `cgroup = []` has 0 entries; allowed: 1 to 256"),
        (
            "pid = [1, 0]",
            "1:11: `pid = 0` is out of range; allowed: a whole number from 1 to 4194304",
        ),
        ("pid = 1\nall = true", "1:7: give one of `cgroup`, `pid` and `all`"),
    ] {
        assert_eq!(problems(text), [message], "{text}");
    }
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_text() {
    let told = problems("interval = 5\nlookbak = \"1s\"\nafter = \"x\"\n");
    assert_eq!(told.len(), 3);
    for (line, problem) in told.iter().enumerate() {
        assert!(problem.starts_with(&format!("{}:", line + 1)), "{problem}");
    }
    let flood: String = (0..1000).map(|n| format!("nonsense{n} = 1\n")).collect();
    assert_eq!(problems(&flood).len(), MAX_PROBLEMS);
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let told = problems("interval = \"5s\"\n[rules.cpu\nmin = 1");
    assert!(told[0].starts_with("2:"), "{told:?}");
    assert!(told[0].contains("not TOML"), "{told:?}");
    assert!(problems("after = \"1s\"\nafter = \"2s\"")[0].starts_with("2:"));
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_file(text in "\\PC{0,200}|([a-z_.]{0,12} ?= ?[-\"\\[{}0-9a-z.,\u{e9}]{0,12}\n){0,6}") {
        if let Err(problems) = parse(&text) {
            proptest::prop_assert!(!problems.is_empty());
            proptest::prop_assert!(problems.iter().all(|one| one.line >= 1 && one.column >= 1));
        }
    }

    #[test]
    fn no_value_breaks_a_known_key(
        key in proptest::sample::select(TOP.to_vec()),
        value in "\"[^\"\\\\\\p{Cc}]{0,8}\"|-?(0|[1-9][0-9]{0,21})|-?[1-9][0-9]{0,2}\\.[0-9]{1,3}|nan|inf|true|\\[\\]|\\{\\}|\\[1, \"x\"\\]",
    ) {
        if let Err(problems) = parse(&format!("{key} = {value}")) {
            proptest::prop_assert!(problems[0].message.contains(key), "{:?}", problems);
        }
    }
}
