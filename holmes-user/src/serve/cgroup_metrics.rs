//! The per-cgroup families: the series that [`TopCgroups`] chose.
//!
//! Must not: choose. Labels are cgroup paths, never ids; a removed cgroup's labels go.

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

use super::families::raise;
use super::snapshot::CgroupSnapshot;
use super::top_cgroups::{Gauges, TOTALS, TopCgroups, Totals};

/// The label value of all cgroups without series of their own. No path is like it: they begin
/// with `/`, and cut ones with `...`.
const OTHER: &str = "other";

/// Name and help of the counters, in the order of `CgroupActivity`'s fields.
const COUNTERS: [(&str, &str); TOTALS] = [
    ("holmes_cgroup_samples_total", "CPU samples taken of the cgroup."),
    ("holmes_cgroup_mmap_calls_total", "Successful mmap calls of the cgroup."),
    ("holmes_cgroup_mmap_bytes_total", "Bytes asked for by mmap in the cgroup."),
    ("holmes_cgroup_brk_calls_total", "brk calls that moved the heap's end in the cgroup."),
    ("holmes_cgroup_brk_bytes_total", "Bytes by which brk grew heaps in the cgroup."),
    ("holmes_cgroup_munmap_bytes_total", "Bytes unmapped in the cgroup."),
    ("holmes_cgroup_threads_created_total", "Threads created in the cgroup."),
];

/// The families and what is shown in them.
#[derive(Debug)]
pub(super) struct CgroupMetrics {
    counters: Vec<IntCounterVec>,
    resident: GaugeVec,
    goroutines: GaugeVec,
    top: TopCgroups,
}

impl CgroupMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let mut counters = Vec::with_capacity(TOTALS);
        for (name, help) in COUNTERS {
            let family = IntCounterVec::new(Opts::new(name, help), &["cgroup"])?;
            registry.register(Box::new(family.clone()))?;
            counters.push(family);
        }
        let resident = GaugeVec::new(
            Opts::new("holmes_cgroup_resident_bytes", "Resident memory of the cgroup."),
            &["cgroup"],
        )?;
        registry.register(Box::new(resident.clone()))?;
        let goroutines = GaugeVec::new(
            Opts::new("holmes_cgroup_goroutines", "Goroutines of the cgroup's own processes."),
            &["cgroup"],
        )?;
        registry.register(Box::new(goroutines.clone()))?;
        let metrics = Self { counters, resident, goroutines, top: TopCgroups::default() };
        metrics.show(OTHER, [0; TOTALS], Gauges::default());
        Ok(metrics)
    }

    pub(super) fn update(&mut self, cgroups: &[CgroupSnapshot]) {
        for label in self.top.update(cgroups) {
            for family in &self.counters {
                // The only error is that it has no such series.
                let _ = family.remove_label_values(&[&label]);
            }
            // As above.
            let _ = self.resident.remove_label_values(&[&label]);
            let _ = self.goroutines.remove_label_values(&[&label]);
        }
        for (label, totals, gauges) in self.top.named() {
            self.show(label, totals, gauges);
        }
        let (totals, gauges) = self.top.other();
        self.show(OTHER, totals, gauges);
    }

    fn show(&self, label: &str, totals: Totals, [resident, goroutines]: Gauges) {
        for (family, total) in self.counters.iter().zip(totals) {
            raise(&family.with_label_values(&[label]), total);
        }
        self.resident.with_label_values(&[label]).set(resident as f64);
        self.goroutines.with_label_values(&[label]).set(goroutines as f64);
    }
}
