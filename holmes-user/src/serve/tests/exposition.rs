//! `/metrics` as text: its golden file, promtool, and that counters never go down.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{snapshot, value};
use crate::serve::*;

#[test]
fn metric_names_types_and_help_are_the_contract() {
    let metrics = Metrics::new().unwrap();
    metrics.update(&snapshot());
    metrics.count_request("/metrics", 200);
    let text = metrics.render().unwrap();
    let described: String =
        text.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(described, include_str!("../metrics.golden"), "got:\n{described}");
}

#[test]
fn promtool_finds_nothing_to_say() {
    let metrics = Metrics::new().unwrap();
    metrics.update(&snapshot());
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("skipped: promtool is not installed (Debian: `prometheus`)");
        return;
    };
    let text = metrics.render().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn known_error_counters_begin_at_zero() {
    let text = Metrics::new().unwrap().render().unwrap();
    for series in [
        "holmes_samples_taken_total",
        "holmes_samples_lost_total{cause=\"ring_full\"}",
        "holmes_records_lost_total{cause=\"no_scratch\",stream=\"tasks\"}",
        "holmes_stack_errors_total{cause=\"kernel_stack_failed\"}",
        "holmes_drops_total{cause=\"cgroup_totals_full\"}",
        "holmes_captures_total{result=\"write_failed\"}",
        "holmes_captures_total{result=\"oom\"}",
        "holmes_rule_decisions_total{decision=\"fire\",signal=\"memory\"}",
        "holmes_cgroup_mmap_bytes_total{cgroup=\"other\"}",
    ] {
        assert_eq!(value(&text, series), Some("0"), "{series}");
    }
    for series in ["process_resident_memory_bytes", "process_threads", "process_open_fds"] {
        let shown: f64 = value(&text, series).unwrap().parse().unwrap();
        assert!(shown > 0.0, "{series} {shown}");
    }
}

#[test]
fn counters_show_the_totals_and_never_go_down() {
    let metrics = Metrics::new().unwrap();
    metrics.update(&snapshot());
    metrics.update(&snapshot());
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, "holmes_samples_taken_total"), Some("10"));
    assert_eq!(value(&text, "holmes_samples_lost_total{cause=\"ring_full\"}"), Some("3"));
    assert_eq!(value(&text, "holmes_probe_run_seconds_total{probe=\"sample\"}"), Some("0.00025"));
    let label = r#"{cgroup="/app\"\\\n.slice"}"#;
    assert_eq!(value(&text, &format!("holmes_cgroup_mmap_bytes_total{label}")), Some("12288"));

    let mut lower = snapshot();
    lower.samples.taken = 9;
    lower.probes[0].run_time = Duration::ZERO;
    lower.window_bytes = 1;
    lower.cgroups.clear();
    metrics.update(&lower);
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, "holmes_samples_taken_total"), Some("10"));
    assert_eq!(value(&text, "holmes_probe_run_seconds_total{probe=\"sample\"}"), Some("0.00025"));
    assert_eq!(value(&text, "holmes_window_bytes"), Some("1"));
    // The removed cgroup's labels are gone, its bytes are not.
    assert!(!text.contains("/app"), "{text}");
    let other = "{cgroup=\"other\"}";
    assert_eq!(value(&text, &format!("holmes_cgroup_mmap_bytes_total{other}")), Some("12288"));
    assert_eq!(value(&text, &format!("holmes_cgroup_resident_bytes{other}")), Some("0"));
}
