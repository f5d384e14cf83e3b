//! `incident.json` against its golden file, and an incident for the tests of the store.

use super::*;
use crate::capture::Reason;
use crate::process::Container;
use crate::rules::{FiredRule, Growth, Rule, RuleSet};
use crate::window::{Cut, ProfileKind};

/// An incident without samples: CPU of a container, fired by `diff`.
pub(in crate::store) fn incident() -> Incident {
    let cut = |stem: &str| IncidentCut {
        stem: stem.to_owned(),
        cut: Cut {
            kind: ProfileKind::Cpu,
            from: Nanos::from_secs(40),
            to: Nanos::from_secs(110),
            samples: Vec::new(),
        },
    };
    Incident {
        target: Target::Cgroup {
            path: "/kubepods/pod1/\"c\"\n".to_owned(),
            container: Some(Container { id: "ab".repeat(32), pod_uid: Some("6f1e".to_owned()) }),
        },
        signal: Some(Signal::Cpu),
        rule: Some(FiredRule::Value(Rule {
            min: 10.0,
            diff: 25.0,
            abs: 80.0,
            max: 0.0,
            cooldown: Duration::from_millis(60_500),
        })),
        reason: Reason::Diff { average: 12.5 },
        previous: vec![12.0, 13.0],
        value: 70.25,
        start: Nanos::from_secs(40),
        onset: Nanos(95_500_000_000),
        trigger: Nanos::from_secs(100),
        end: Nanos::from_secs(110),
        trigger_unix_ns: 1_793_675_700_250_000_000,
        sample_period_ns: 20_408_163,
        memory_interval: 524_288,
        go_heaps: Vec::new(),
        memory: None,
        victims: Vec::new(),
        losses: Losses {
            taken: 10,
            reported: 8,
            lost: BTreeMap::from([("ring_full".to_owned(), 2)]),
            notes: BTreeMap::from([("user_stack_truncated".to_owned(), 1)]),
        },
        timeline: None,
        cuts: vec![cut("cpu"), cut("cpu.base")],
    }
}

pub(in crate::store) fn document() -> IncidentDocument {
    let incident = incident();
    let files: Vec<_> = incident
        .cuts
        .iter()
        .map(|cut| FileSummary::new(cut, &format!("{}.pb.gz", cut.stem), 3, 1000))
        .collect();
    let movers = vec![Mover {
        function: "spin".to_owned(),
        self_before_per_second: 0.0,
        self_during_per_second: 9.5e8,
        total_before_per_second: 0.0,
        total_during_per_second: 9.5e8,
    }];
    let off = vec![ProbeOff { name: "memory".to_owned(), reason: "no sys_exit".to_owned() }];
    IncidentDocument::new(&incident, &files, movers, off, "0.1.0", "node-1")
}

#[test]
fn the_file_reads_as_promised() {
    let text = serde_json::to_string_pretty(&document()).unwrap();
    assert_eq!(text, include_str!("golden.json").trim_end());
}

#[test]
fn it_reads_back() {
    let text = serde_json::to_string(&document()).unwrap();
    let back: IncidentDocument = serde_json::from_str(&text).unwrap();
    assert_eq!(back, document());
}

#[test]
fn a_manual_trigger_has_no_rule() {
    let incident = Incident {
        target: Target::Host,
        signal: None,
        rule: None,
        reason: Reason::Manual,
        ..incident()
    };
    let document = IncidentDocument::new(&incident, &[], Vec::new(), Vec::new(), "0", "h");
    let json = serde_json::to_value(document).unwrap();
    assert_eq!(json["signal"], serde_json::Value::Null);
    assert_eq!(json["rule"], serde_json::Value::Null);
    assert_eq!(json["target"]["kind"], "host");
    assert_eq!(json["reason"]["kind"], "manual");
}

#[test]
fn a_window_from_before_1970_does_not_wrap() {
    let incident = Incident { trigger_unix_ns: 5_000_000_000, ..incident() };
    assert_eq!(WindowDocument::from(&incident).start, "1970-01-01T00:00:00.000Z");
}

/// As JSON, what says why.
fn cause_of(incident: &Incident) -> serde_json::Value {
    let document = IncidentDocument::new(incident, &[], Vec::new(), Vec::new(), "0.1.0", "node-1");
    let text = serde_json::to_string(&document).unwrap();
    let back: IncidentDocument = serde_json::from_str(&text).unwrap();
    assert_eq!(back, document);
    let all = serde_json::to_value(&document).unwrap();
    let parts = ["signal", "unit", "rule", "reason"].map(|key| (key.to_owned(), all[key].clone()));
    serde_json::Value::Object(parts.into_iter().collect())
}

#[test]
fn a_leak_tells_its_rate_and_its_time() {
    let leak = Incident {
        signal: Some(Signal::Leak),
        rule: RuleSet::default()
            .leak
            .map(|rule| FiredRule::Leak(crate::rules::LeakRule { rate: 4096.0, ..rule })),
        reason: Reason::Leak(Growth {
            rate: 8192.5,
            span: Duration::from_secs(600),
            bytes: 1 << 20,
            limit: Some(1 << 30),
            seconds_to_limit: Some(3600.5),
        }),
        ..incident()
    };
    assert_eq!(
        cause_of(&leak),
        serde_json::json!({
            "signal": "leak",
            "unit": "bytes/second",
            "rule": {
                "bytes_per_second": 4096.0,
                "for_seconds": 600.0,
                "within_seconds": 21600.0,
                "cooldown_seconds": 3600.0,
            },
            "reason": {
                "kind": "leak",
                "bytes_per_second": 8192.5,
                "span_seconds": 600.0,
                "memory_bytes": 1 << 20,
                "limit_bytes": 1 << 30,
                "seconds_to_limit": 3600.5,
            },
        })
    );
}

#[test]
fn an_early_warning_is_one_of_memory() {
    let warned = |warning| Incident {
        signal: Some(Signal::Memory),
        rule: RuleSet::default().psi.map(FiredRule::Psi),
        reason: Reason::Warned(warning),
        ..incident()
    };
    assert_eq!(
        cause_of(&warned(crate::signals::Warning::Pressure { some_avg10: 17.5 })),
        serde_json::json!({
            "signal": "memory",
            "unit": "percent",
            "rule": {
                "stall_seconds": 0.3,
                "window_seconds": 2.0,
                "min": 50.0,
                "cooldown_seconds": 600.0,
            },
            "reason": { "kind": "pressure", "some_avg10": 17.5 },
        })
    );
    let high = crate::signals::Warning::MemoryHigh { events: 3, held_percent: 99.5 };
    assert_eq!(
        cause_of(&warned(high))["reason"],
        serde_json::json!({ "kind": "memory_high", "events": 3, "held_percent": 99.5 })
    );
}
