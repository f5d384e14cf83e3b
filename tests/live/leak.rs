//! Memory that leaks is caught by its slope, and what only looks like it is not; the kernel's early
//! warnings come through.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::{Hierarchy, TestCgroup};
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::transcript::eventually;
use holmes_tests::workload::Workload;
use serde_json::Value;

/// Above a tenth of the speed at which the workload leaks.
const RULE: &str = "leak=rate:6MiB/m,for:6s,within:1h,cooldown:1h";

/// What the workload takes in each tenth of a second, in KiB: a MiB a second.
const STEP_KIB: u32 = 102;

const LIMIT_MIB: u64 = 512;

/// A cgroup of the memory controller, wherever that is, with a limit; `None` with the reason told
/// where there is no such controller.
fn limited(mib: u64) -> anyhow::Result<Option<TestCgroup>> {
    let places =
        [(Hierarchy::Unified, "memory.max"), (Hierarchy::V1("memory"), "memory.limit_in_bytes")];
    for (hierarchy, file) in places {
        let Ok(cgroup) = TestCgroup::in_hierarchy(hierarchy) else { continue };
        let limit = cgroup.path().join(file);
        if limit.exists() {
            fs::write(&limit, (mib << 20).to_string()).context("limiting memory")?;
            return Ok(Some(cgroup));
        }
    }
    machine::not_run("no cgroup hierarchy has the memory controller")?;
    Ok(None)
}

#[test]
fn a_leak_below_every_other_rule_is_caught_with_the_time_that_is_left() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(cgroup) = limited(LIMIT_MIB)? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("leak")?, Some(&cgroup))?;
    let recorder = Setup::only_rule(RULE).cgroup(&cgroup).start()?;
    program.ask(&format!("grow {STEP_KIB}"), "started")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-leak-"), "the folder is called {}", incident.name());
    let stems = incident.validate()?;
    ensure!(stems.contains("mmap") && stems.contains("cpu"), "profiles: {stems:?}");
    let reason = incident.document().pointer("/reason/kind");
    ensure!(reason.is_some_and(|kind| kind == "leak"), "{:#}", incident.document());
    let number = |pointer| incident.number(pointer);
    let rate = number("/value")?;
    // A busy machine makes the workload late, never fast.
    let mib = f64::from(1 << 20);
    ensure!((0.1 * mib..1.2 * mib).contains(&rate), "{rate} bytes a second");
    let limit = number("/reason/limit_bytes")?;
    ensure!(limit == (LIMIT_MIB << 20) as f64, "a limit of {limit}");
    let left = (limit - number("/reason/memory_bytes")?) / rate;
    let told = number("/reason/seconds_to_limit")?;
    ensure!((told / left - 1.0).abs() < 0.01, "{told} seconds of {left}");
    ensure!(number("/reason/span_seconds")? == 6.0, "{:#}", incident.document());
    recorder.wait_for_line("[Holmes] pprof leak, config_rate : 104857.6, config_for : 6")?;
    recorder.wait_for_line("at its limit of 512.0 MiB in ")?;
    let profile = incident.profile("mmap")?;
    let share = profile.percent("mapped", "keep_forever")?;
    ensure!(share > 90.0, "{}", profile.top("mapped"));
    Ok(())
}

#[test]
fn a_process_is_held_to_the_limit_of_its_cgroup() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(cgroup) = limited(LIMIT_MIB)? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("leak")?, Some(&cgroup))?;
    let pid = program.pid().to_string();
    let recorder = Setup::only_rule(RULE).args(["--pid", &pid]).start()?;
    program.ask(&format!("grow {STEP_KIB}"), "started")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().ends_with(&format!("-leak-pid-{pid}")), "{}", incident.name());
    let limit = incident.number("/reason/limit_bytes")?;
    ensure!(limit == (LIMIT_MIB << 20) as f64, "a limit of {limit}");
    Ok(())
}

#[test]
fn a_heap_that_is_collected_is_no_leak() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(cgroup) = limited(LIMIT_MIB)? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("leak")?, Some(&cgroup))?;
    // Twenty MiB a second, given back each second.
    program.ask("saw 2048 10", "started")?;
    let recorder = Setup::only_rule(RULE).cgroup(&cgroup).start()?;
    let decided = |decision| {
        let labels = [("signal", "leak"), ("decision", decision)];
        recorder.metrics().ok()?.sum("holmes_rule_decisions_total", &labels)
    };
    // Three spans of the rule.
    eventually("ninety decisions", || decided("quiet").filter(|quiet| *quiet >= 90.0))?;
    ensure!(decided("fire").is_none_or(|fired| fired == 0.0), "it fired");
    Ok(())
}

/// A file whose pages can be taken back; `None` with the reason told where files are memory.
fn file_on_disk(mib: usize) -> anyhow::Result<Option<tempfile::NamedTempFile>> {
    let mut file = tempfile::NamedTempFile::new()?;
    // SAFETY: the kernel fills a structure of this size, and zeros are one.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the structure lives through the call.
    let result = unsafe { libc::fstatfs(file.as_file().as_raw_fd(), &raw mut system) };
    ensure!(result == 0, "statfs: {}", std::io::Error::last_os_error());
    // An overlay does not say what it lies on.
    if [libc::TMPFS_MAGIC, libc::OVERLAYFS_SUPER_MAGIC].contains(&system.f_type) {
        machine::not_run("the temporary folder may be memory itself")?;
        return Ok(None);
    }
    let chunk = vec![1_u8; 1 << 20];
    (0..mib).try_for_each(|_| file.write_all(&chunk))?;
    file.as_file().sync_all()?;
    Ok(Some(file))
}

#[test]
fn pressure_on_the_host_is_an_incident_of_memory() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    if fs::metadata("/proc/pressure/memory").is_err() {
        return machine::not_run("this kernel keeps no pressure (/proc/pressure/memory)");
    }
    let Some(large) = file_on_disk(48)? else { return Ok(()) };
    // It reads more than it may keep, and waits for the same pages over and over.
    let Some(cgroup) = limited(16)? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("leak")?, Some(&cgroup))?;
    let recorder = Setup::only_rule("psi=stall:20ms,window:2s,cooldown:1h").start()?;
    program.ask(&format!("read {}", large.path().display()), "started")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-memory-"), "the folder is called {}", incident.name());
    let kind = incident.document().pointer("/reason/kind").context("a reason")?;
    ensure!(kind == "pressure" || kind == "memory_max", "{:#}", incident.document());
    incident.validate()?;
    recorder.wait_for_line("[Holmes] pprof memory, config_stall : 0.02, config_window : 2")?;
    Ok(())
}

/// One that did not exist when the recorder began to watch the host.
#[test]
fn a_cgroup_above_its_high_mark_is_warned_of() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let rule = "psi=stall:20ms,window:2s,cooldown:0s";
    let recorder = Setup::only_rule(rule).start()?;
    let Some(cgroup) = limited(LIMIT_MIB)? else { return Ok(()) };
    let high = cgroup.path().join("memory.high");
    if !high.exists() {
        return machine::not_run("cgroup v2 has no memory controller");
    }
    fs::write(&high, (32_u64 << 20).to_string())?;
    let mut wanted = BTreeSet::from(["memory_high".to_owned()]);
    // A kernel without PSI has the events alone.
    if cgroup.path().join("memory.pressure").exists() {
        wanted.insert("pressure".to_owned());
    }
    let mut program = Program::start(&Workload::c("leak")?, Some(&cgroup))?;
    recorder.wait_for_warm_up();
    program.ask("grow 8192", "started")?;
    let mut seen = BTreeSet::new();
    // Each second has a few: of the host as well.
    for number in 1..=20 {
        let incident = recorder.wait_incident(number)?;
        ensure!(incident.name().contains("-memory-"), "the folder is called {}", incident.name());
        let at = |pointer| incident.document().pointer(pointer).and_then(Value::as_str);
        if at("/target/path") == Some(&cgroup.name()) {
            seen.extend(at("/reason/kind").map(str::to_owned));
        }
        if at("/reason/kind") == Some("memory_high") {
            let held = incident.number("/reason/held_percent")?;
            ensure!(held > 50.0, "{held} % of the mark");
        }
        if seen.is_superset(&wanted) {
            return Ok(());
        }
    }
    anyhow::bail!("of {wanted:?} there was {seen:?}")
}
