//! The standard `process_*` metrics of the recorder itself, read from `/proc/self` at each scrape.
//!
//! Must not: fail a scrape. What cannot be read keeps its last value.

use procfs::process::{LimitValue, Process};
use prometheus::{Counter, Gauge, Registry};

/// The families.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    start_time: Gauge,
    resident: Gauge,
    virtual_memory: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let cpu_seconds =
            Counter::new("process_cpu_seconds_total", "User and system CPU time of the recorder.")?;
        registry.register(Box::new(cpu_seconds.clone()))?;
        Ok(Self {
            cpu_seconds,
            start_time: gauge("process_start_time_seconds", "Start time since the Unix epoch.")?,
            resident: gauge("process_resident_memory_bytes", "Resident memory.")?,
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory.")?,
            threads: gauge("process_threads", "Threads.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge("process_max_fds", "Limit of open file descriptors.")?,
        })
    }

    pub(super) fn refresh(&self) {
        let Ok(process) = Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            let cpu = (stat.utime + stat.stime) as f64 / ticks;
            self.cpu_seconds.inc_by((cpu - self.cpu_seconds.get()).max(0.0));
            self.resident.set(stat.rss as f64 * procfs::page_size() as f64);
            self.virtual_memory.set(stat.vsize as f64);
            self.threads.set(stat.num_threads as f64);
            if let Ok(boot) = procfs::boot_time_secs() {
                self.start_time.set(boot as f64 + stat.starttime as f64 / ticks);
            }
        }
        if let Ok(open) = process.fd_count() {
            self.open_fds.set(open as f64);
        }
        if let Ok(limits) = process.limits() {
            self.max_fds.set(match limits.max_open_files.soft_limit {
                LimitValue::Value(limit) => limit as f64,
                LimitValue::Unlimited => f64::INFINITY,
            });
        }
    }
}
