//! Every metric but the per-cgroup ones: registered once, raised from a [`Snapshot`].
//!
//! A scrape sees one snapshot whole, so that what adds up in the recorder adds up in `/metrics`.
//! Names are a contract (`metrics.golden`): prefix `holmes_`, base units, `_total` for counters.
//!
//! Must not: show a pid, a process name or a symbol as a label.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holmes_common::counter::{Counter as Cause, Stream};
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec,
    Opts, Registry, TextEncoder,
};

use super::cgroup_metrics::CgroupMetrics;
use super::error::ServeError;
use super::families::{StreamFamilies, raise, register};
use super::name_metrics::NameMetrics;
use super::process_metrics::ProcessMetrics;
use super::snapshot::{Counts, Snapshot, StreamTotals};
use crate::rules::Decision;
use crate::signals::Signal;

/// Seconds from a trigger to its incident on disk, without the after-window: the budget is 3 s.
const CAPTURE_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// Results of captures that are shown as 0 before the first.
const CAPTURE_RESULTS: [&str; 8] =
    ["rule", "manual", "oom", "closed", "budget", "pending_full", "written", "write_failed"];

/// Causes of retirement that are shown as 0 before the first.
const RETIRE_CAUSES: [&str; 3] = ["age", "bytes", "full_disk"];

/// The counters of kernel stacks that could not be walked whole.
const STACK_ERRORS: [Cause; 2] = [Cause::KernelStackFailed, Cause::KernelStackTruncated];

/// The counters of what the probes' own maps had no room for.
const KERNEL_DROPS: [Cause; 6] = [
    Cause::CgroupTotalsFull,
    Cause::VerdictMapFull,
    Cause::SpaceUnknown,
    Cause::CgroupUnreadable,
    Cause::WaitEndsLost,
    Cause::WaitersFull,
];

/// The registry and everything in it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    capture_duration: Histogram,
    http_requests: IntCounterVec,
    http_dropped: IntCounterVec,
    /// Locked by an update and by a scrape, so that neither sees half of the other.
    families: Mutex<Families>,
}

#[derive(Debug)]
struct Families {
    samples: StreamFamilies,
    records: StreamFamilies,
    stack_errors: IntCounterVec,
    stack_walks: IntCounterVec,
    unwind_tables: Gauge,
    unwind_table_events: IntCounterVec,
    unwind_seconds: Counter,
    drops: IntCounterVec,
    decisions: IntCounterVec,
    captures: IntCounterVec,
    retired: IntCounterVec,
    retention_failures: IntCounter,
    incidents: Gauge,
    incident_bytes: Gauge,
    window_bytes: Gauge,
    tracked_cgroups: Gauge,
    probe_up: GaugeVec,
    probe_runs: IntCounterVec,
    probe_run_seconds: CounterVec,
    map_entries: GaugeVec,
    map_max_entries: GaugeVec,
    cgroups: CgroupMetrics,
    names: NameMetrics,
    process: ProcessMetrics,
}

impl Metrics {
    /// Registers every metric. Error counters whose causes are known begin at 0, so that their
    /// first increment is an increase.
    ///
    /// # Errors
    /// When two metrics have one name, which only a fault in this file can bring about.
    pub fn new() -> Result<Self, ServeError> {
        let registry = Registry::new();
        let build = register(
            &registry,
            GaugeVec::new(
                Opts::new("holmes_build_info", "The recorder's version; always 1."),
                &["version"],
            )?,
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let families = Families::register(&registry)?;
        families.init();
        Ok(Self {
            capture_duration: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "holmes_capture_duration_seconds",
                        "From the end of an incident's window to its folder on disk.",
                    )
                    .buckets(CAPTURE_BUCKETS.to_vec()),
                )?,
            )?,
            http_requests: register(
                &registry,
                IntCounterVec::new(
                    Opts::new("holmes_http_requests_total", "HTTP requests answered."),
                    &["path", "code"],
                )?,
            )?,
            http_dropped: {
                let family = register(
                    &registry,
                    IntCounterVec::new(
                        Opts::new(
                            "holmes_http_connections_dropped_total",
                            "HTTP connections that ended without a whole answer, by cause.",
                        ),
                        &["cause"],
                    )?,
                )?;
                for cause in ConnectionDrop::ALL {
                    family.with_label_values(&[cause.name()]);
                }
                family
            },
            families: Mutex::new(families),
            registry,
        })
    }

    /// Shows these totals from now on. A counter whose total went down keeps its value.
    pub fn update(&self, snapshot: &Snapshot) {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).update(snapshot);
    }

    /// An incident was written, this long after its window closed.
    pub fn observe_capture(&self, duration: Duration) {
        self.capture_duration.observe(duration.as_secs_f64());
    }

    /// The text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// When a family cannot be encoded.
    pub fn render(&self) -> Result<String, ServeError> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.process.refresh();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// Counts an answer. `path` is one of the known routes or `other`: never what a client sent.
    pub(super) fn count_request(&self, path: &'static str, code: u16) {
        self.http_requests.with_label_values(&[path, &code.to_string()]).inc();
    }

    pub(super) fn count_dropped(&self, cause: ConnectionDrop) {
        self.http_dropped.with_label_values(&[cause.name()]).inc();
    }
}

/// Why a connection ended without a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionDrop {
    /// It could not be accepted: no file descriptors, or gone before.
    Accept,
    /// It took too long.
    Timeout,
    /// It was cut, or was not HTTP.
    Protocol,
}

impl ConnectionDrop {
    const ALL: [Self; 3] = [Self::Accept, Self::Timeout, Self::Protocol];

    const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }
}

impl Families {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str| register(registry, Gauge::new(name, help)?);
        let gauges = |name: &str, help: &str, label: &str| {
            register(registry, GaugeVec::new(Opts::new(name, help), &[label])?)
        };
        Ok(Self {
            samples: StreamFamilies {
                taken: counters("holmes_samples_taken_total", "CPU samples taken.", &[])?,
                reported: counters(
                    "holmes_samples_reported_total",
                    "CPU samples that reached the window.",
                    &[],
                )?,
                lost: counters(
                    "holmes_samples_lost_total",
                    "CPU samples lost, by cause. Taken = reported + lost.",
                    &["cause"],
                )?,
            },
            records: StreamFamilies {
                taken: counters(
                    "holmes_records_taken_total",
                    "Records other than CPU samples taken.",
                    &["stream"],
                )?,
                reported: counters(
                    "holmes_records_reported_total",
                    "Records other than CPU samples that reached the window.",
                    &["stream"],
                )?,
                lost: counters(
                    "holmes_records_lost_total",
                    "Records other than CPU samples lost, by cause. Taken = reported + lost.",
                    &["stream", "cause"],
                )?,
            },
            stack_errors: counters(
                "holmes_stack_errors_total",
                "Kernel stacks that could not be walked or were cut, by cause.",
                &["cause"],
            )?,
            stack_walks: counters(
                "holmes_stack_walks_total",
                "Walks of user stacks by how they ended; `outermost` is a whole stack.",
                &["end"],
            )?,
            unwind_tables: gauge(
                "holmes_unwind_tables",
                "Executables whose unwind table the probes can use.",
            )?,
            unwind_table_events: counters(
                "holmes_unwind_tables_total",
                "Unwind tables by what became of them: made, evicted, or why there is none.",
                &["result"],
            )?,
            unwind_seconds: register(
                registry,
                Counter::new(
                    "holmes_unwind_compile_seconds_total",
                    "Time spent on making unwind tables.",
                )?,
            )?,
            drops: counters(
                "holmes_drops_total",
                "What a full map, cache or queue dropped beside records, by cause.",
                &["cause"],
            )?,
            decisions: counters(
                "holmes_rule_decisions_total",
                "Decisions of the rules.",
                &["signal", "decision"],
            )?,
            captures: counters("holmes_captures_total", "Captures, by result.", &["result"])?,
            retired: counters(
                "holmes_incidents_retired_total",
                "Incidents deleted from the dump folder, by cause.",
                &["cause"],
            )?,
            retention_failures: register(
                registry,
                IntCounter::new(
                    "holmes_retention_failures_total",
                    "Folders that should have been deleted and could not be.",
                )?,
            )?,
            incidents: gauge("holmes_incidents", "Incidents in the dump folder.")?,
            incident_bytes: gauge("holmes_incident_bytes", "Bytes of the incidents on disk.")?,
            window_bytes: gauge("holmes_window_bytes", "Memory of the look-back window.")?,
            tracked_cgroups: gauge("holmes_tracked_cgroups", "Cgroups that are watched.")?,
            probe_up: gauges("holmes_probe_up", "Whether the probe is attached.", "probe")?,
            probe_runs: counters(
                "holmes_probe_runs_total",
                "Runs of the probe's program, as the kernel counts them.",
                &["probe"],
            )?,
            probe_run_seconds: register(
                registry,
                CounterVec::new(
                    Opts::new("holmes_probe_run_seconds_total", "Run time of the probe's program."),
                    &["probe"],
                )?,
            )?,
            map_entries: gauges("holmes_map_entries", "Entries in use of a probe's map.", "map")?,
            map_max_entries: gauges("holmes_map_max_entries", "Bound of a probe's map.", "map")?,
            cgroups: CgroupMetrics::register(registry)?,
            names: NameMetrics::register(registry)?,
            process: ProcessMetrics::register(registry)?,
        })
    }

    /// Shows 0 for everything that is known to come.
    fn init(&self) {
        for stream in Stream::ALL {
            let (families, label): (_, &[&str]) = match stream {
                Stream::Samples => (&self.samples, &[]),
                Stream::Memory
                | Stream::Tasks
                | Stream::Faults
                | Stream::Releases
                | Stream::Waits => (&self.records, &[stream.name()]),
                // The recorder takes none.
                Stream::Allocations => continue,
            };
            let causes = ["ring_full", "no_scratch", "no_chain"].map(|cause| (cause.to_owned(), 0));
            let lost = Counts::from(causes);
            families.raise(label, &StreamTotals { lost, ..StreamTotals::default() });
        }
        for (family, causes) in
            [(&self.stack_errors, &STACK_ERRORS[..]), (&self.drops, &KERNEL_DROPS[..])]
        {
            causes.iter().for_each(|cause| raise(&family.with_label_values(&[cause.name()]), 0));
        }
        for result in CAPTURE_RESULTS {
            self.captures.with_label_values(&[result]);
        }
        for cause in RETIRE_CAUSES {
            self.retired.with_label_values(&[cause]);
        }
        for signal in Signal::ALL {
            for decision in Decision::NAMES {
                self.decisions.with_label_values(&[signal.name(), decision]);
            }
        }
    }

    fn update(&mut self, snapshot: &Snapshot) {
        self.samples.raise(&[], &snapshot.samples);
        for (stream, totals) in &snapshot.records {
            self.records.raise(&[stream], totals);
        }
        for (family, counts) in [
            (&self.stack_errors, &snapshot.stack_errors),
            (&self.stack_walks, &snapshot.stack_walks),
            (&self.unwind_table_events, &snapshot.unwind_table_events),
            (&self.drops, &snapshot.drops),
            (&self.captures, &snapshot.captures),
            (&self.retired, &snapshot.retired),
        ] {
            for (label, &total) in counts {
                raise(&family.with_label_values(&[label]), total);
            }
        }
        self.names.update(snapshot);
        for ((signal, decision), &total) in &snapshot.decisions {
            raise(&self.decisions.with_label_values(&[signal, decision]), total);
        }
        raise(&self.retention_failures, snapshot.retention_failures);
        self.unwind_tables.set(snapshot.unwind_tables as f64);
        let made = snapshot.unwind_seconds.as_secs_f64() - self.unwind_seconds.get();
        self.unwind_seconds.inc_by(made.max(0.0));
        self.incidents.set(snapshot.incidents as f64);
        self.incident_bytes.set(snapshot.incident_bytes as f64);
        self.window_bytes.set(snapshot.window_bytes as f64);
        self.tracked_cgroups.set(snapshot.tracked_cgroups as f64);
        for probe in &snapshot.probes {
            let label = &[&probe.name];
            self.probe_up.with_label_values(label).set(f64::from(u8::from(probe.up)));
            raise(&self.probe_runs.with_label_values(label), probe.runs);
            let seconds = self.probe_run_seconds.with_label_values(label);
            seconds.inc_by((probe.run_time.as_secs_f64() - seconds.get()).max(0.0));
        }
        for map in &snapshot.maps {
            let label = &[&map.name];
            self.map_max_entries.with_label_values(label).set(map.max_entries as f64);
            if let Some(entries) = map.entries {
                self.map_entries.with_label_values(label).set(entries as f64);
            }
        }
        self.cgroups.update(&snapshot.cgroups);
    }
}
