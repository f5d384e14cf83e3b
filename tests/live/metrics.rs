//! `/metrics` as Prometheus reads it, and the two probes of Kubernetes.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::machine;
use holmes_tests::metrics::promtool_objections;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// What the documentation promises; a name that ends in `_` is a family.
const PROMISED: [&str; 27] = [
    "holmes_build_info",
    "holmes_samples_taken_total",
    "holmes_samples_reported_total",
    "holmes_samples_lost_total",
    "holmes_records_",
    "holmes_stack_errors_total",
    "holmes_debug_info_skipped_total",
    "holmes_debuginfod_fetches_total",
    "holmes_frames_total",
    "holmes_rule_decisions_total",
    "holmes_captures_total",
    "holmes_capture_duration_seconds",
    "holmes_incident_bytes",
    "holmes_tracked_cgroups",
    "holmes_probe_up",
    "holmes_probe_runs_total",
    "holmes_probe_run_seconds_total",
    "holmes_map_entries",
    "holmes_map_max_entries",
    "holmes_window_bytes",
    "holmes_cgroup_mmap_bytes_total",
    "holmes_cgroup_brk_bytes_total",
    "holmes_cgroup_munmap_bytes_total",
    "holmes_cgroup_threads_created_total",
    "holmes_cgroup_resident_bytes",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
];

#[test]
fn promtool_has_nothing_to_object_to() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    program.ask("spin", "spinning")?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    recorder.trigger()?;
    recorder.wait_incident(1)?;
    recorder.wait_for_metrics("samples of the program", |metrics| {
        metrics.sum("holmes_samples_reported_total", &[]).filter(|&count| count > 0.0)
    })?;
    let page = recorder.get("/metrics")?.body;
    let objections = promtool_objections(&page)?;
    ensure!(objections.is_empty(), "promtool: {objections}\n{page}");
    for name in PROMISED {
        let has =
            |line: &str| line.strip_prefix("# TYPE ").is_some_and(|rest| rest.starts_with(name));
        ensure!(page.lines().any(has), "no {name} in:\n{page}");
    }
    let label = format!("cgroup=\"{}\"", cgroup.name());
    ensure!(page.contains(&label), "no series of {label} in:\n{page}");
    // What would make too many series, or name a person's data, is no label.
    for label in ["pid=\"", "comm=\"", "symbol=\""] {
        ensure!(!page.contains(label), "a label {label} in:\n{page}");
    }
    Ok(())
}

#[test]
fn alive_and_ready_are_said() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    let alive = recorder.get("/healthz")?;
    ensure!(alive.status == 200, "{alive:?}");
    let ready = recorder.get("/readyz")?;
    ensure!(ready.status == 200, "{ready:?}");
    ensure!(ready.body.contains(&recorder.address().to_string()), "no address: {ready:?}");
    let nothing = recorder.get("/nothing")?;
    ensure!(nothing.status == 404, "{nothing:?}");
    let wrong = recorder.get("/trigger")?;
    ensure!(wrong.status == 405, "{wrong:?}");
    Ok(())
}
