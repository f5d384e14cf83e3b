//! What the tests of `/metrics` and of the routes share: a snapshot with something in everything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

mod exposition;
mod http;

/// A snapshot in which every family has something to show.
fn snapshot() -> Snapshot {
    let counts = |pairs: &[(&str, u64)]| -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    Snapshot {
        samples: StreamTotals { taken: 10, reported: 7, lost: counts(&[("ring_full", 3)]) },
        records: BTreeMap::from([(
            "memory".to_owned(),
            StreamTotals { taken: 5, reported: 5, lost: Counts::new() },
        )]),
        stack_errors: counts(&[("kernel_stack_failed", 2)]),
        stack_walks: counts(&[("outermost", 90), ("unmapped", 3)]),
        unwind_tables: 12,
        unwind_table_events: counts(&[("made", 14), ("evicted", 2)]),
        unwind_seconds: Duration::from_millis(1500),
        drops: counts(&[("window_evicted", 1)]),
        frames: counts(&[("symbol", 9)]),
        debug_skipped: counts(&[("crashed", 2)]),
        fetches: counts(&[("stored", 1)]),
        decisions: BTreeMap::from([(("cpu".to_owned(), "cooldown".to_owned()), 4)]),
        captures: counts(&[("written", 1)]),
        retired: counts(&[("age", 1)]),
        retention_failures: 1,
        incidents: 2,
        incident_bytes: 4096,
        window_bytes: 1 << 20,
        tracked_cgroups: 1,
        probes: vec![ProbeSnapshot {
            name: "sample".to_owned(),
            up: true,
            runs: 100,
            run_time: Duration::from_micros(250),
        }],
        maps: vec![MapSnapshot { name: "TOTALS".to_owned(), entries: Some(1), max_entries: 4096 }],
        cgroups: vec![CgroupSnapshot {
            id: 1,
            path: "/app\"\\\n.slice".to_owned(),
            activity: CgroupActivity { mmap_calls: 3, mmap_bytes: 12288, ..Default::default() },
            resident_bytes: 8192,
            ..Default::default()
        }],
    }
}

/// The value of one series, as it is written.
fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}
