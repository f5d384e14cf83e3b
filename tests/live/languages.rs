//! A spike in each language: the incident names the function that spins, and holds the time before.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::pprof_tool::{negative_rows, pprof};
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;
use tempfile::TempDir;

use crate::spike::{self, cpu_rule};

/// What a native program's incident must say of it.
fn native(workload: &Workload) -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let (_folder, incident) = caught(workload)?;
    let whole = incident.profile("cpu")?;
    let base = incident.profile("cpu.base")?;
    let (spin, rest) = (workload.spins_in, workload.rests_in);
    let share = whole.percent("samples", spin)?;
    // It spins alone from the onset on, for more than a second of six; the rest is quiet work.
    ensure!(share > 50.0, "{spin} has {share:.1} %:\n{}", whole.top("samples"));
    ensure!(base.cumulative("samples", rest)? > 0, "no quiet time:\n{}", base.top("samples"));
    // The onset is known to the second, so a little of the spike may lie before it.
    let (before, in_all) = (base.cumulative("samples", spin)?, whole.cumulative("samples", spin)?);
    ensure!(before * 3 <= in_all, "{before} of {in_all} samples of the spike are in the base");
    readable_by_go(&incident, spin)
}

/// Lets it spike, and checks what every incident must hold. Returns the dump folder as well, which
/// must live as long as the incident is read.
fn caught(workload: &Workload) -> anyhow::Result<(TempDir, IncidentFolder)> {
    let folder = tempfile::tempdir()?;
    let cgroup = TestCgroup::new()?;
    let setup = Setup::only_rule(&cpu_rule()).dump_dir(folder.path());
    let spike = spike::catch(workload, &cgroup, &cgroup, setup)?;
    let incident = spike.incident;
    ensure!(incident.name().contains("-cpu-"), "the folder is called {}", incident.name());
    let stems = incident.validate()?;
    ensure!(stems.contains("cpu") && stems.contains("cpu.base"), "profiles: {stems:?}");
    let log = spike.recorder.log();
    let line = |pattern: &str| log.iter().position(|line| line.contains(pattern));
    let holmes = line("[Holmes] pprof cpu, config_min : ");
    ensure!(holmes.is_some() && holmes < line("incident written: "), "Holmes' line is not before");
    // Nothing but the program itself, and all of it labelled.
    let whole = incident.profile("cpu")?;
    let pids = whole.label_values("pid");
    ensure!(pids.len() == 1 && pids.contains(&spike.program.pid().to_string()), "pids: {pids:?}");
    ensure!(whole.label_values("cgroup").contains(&cgroup.name()), "no label of the cgroup");
    ensure!(whole.without_label("comm") == 0, "samples without a comm");
    // The base is the beginning of the whole: a part of its time, and of its samples.
    let base = incident.profile("cpu.base")?;
    let (before, in_all) = (base.total("samples")?, whole.total("samples")?);
    ensure!(0 < before && before < in_all, "{before} of {in_all} samples are before the onset");
    ensure!(base.raw().time_nanos == whole.raw().time_nanos, "they begin at different times");
    ensure!(base.raw().duration_nanos < whole.raw().duration_nanos, "the base is not shorter");
    spike.recorder.stop()?.account.expect_balanced()?;
    Ok((folder, incident))
}

/// `go tool pprof` reads the profiles in each way the README shows.
fn readable_by_go(incident: &IncidentFolder, name: &str) -> anyhow::Result<()> {
    let whole = incident.file("cpu").into_os_string();
    let base = incident.file("cpu.base").into_os_string();
    let top = pprof(&["-top".into(), whole.clone()])?;
    ensure!(top.contains(name), "-top does not name {name}:\n{top}");
    let raw = pprof(&["-raw".into(), whole.clone()])?;
    ensure!(raw.contains("samples/count cpu/nanoseconds"), "-raw has other sample types:\n{raw}");
    let options = ["-top", "-sample_index=samples", "-base"].map(Into::into);
    let since = pprof(&[&options[..], &[base, whole]].concat())?;
    ensure!(since.contains(name), "-base does not name {name}:\n{since}");
    let negative = negative_rows(&since);
    ensure!(negative.is_empty(), "-base has less than nothing: {negative:?}");
    Ok(())
}

#[test]
fn c() -> anyhow::Result<()> {
    native(&Workload::c("spin")?)
}

#[test]
fn rust() -> anyhow::Result<()> {
    native(&Workload::rust_spin()?)
}

#[test]
fn go() -> anyhow::Result<()> {
    native(&Workload::go_spin()?)
}

/// It is the interpreter that spins, before the spike as well as during it: what counts is that its
/// stacks are whole, from the program's entry to the loop over the byte code.
#[test]
fn python() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::python_spin()?;
    let (_folder, incident) = caught(&workload)?;
    let whole = incident.profile("cpu")?;
    let share = whole.chain_percent("samples", &["Py_RunMain", workload.spins_in])?;
    ensure!(share > 80.0, "the interpreter has {share:.1} %:\n{}", whole.top("samples"));
    readable_by_go(&incident, workload.spins_in)
}
