//! From the start to the end: the first SIGTERM finishes what is under way, the second does not.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup};
use holmes_tests::workload::Workload;
use tempfile::TempDir;

/// A capture that would go on for a minute, begun just now.
struct Capturing {
    recorder: Recorder,
    folder: TempDir,
    _program: Program,
    _cgroup: TestCgroup,
}

fn capturing() -> anyhow::Result<Capturing> {
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    program.ask("spin", "spinning")?;
    let folder = tempfile::tempdir()?;
    let setup = Setup::no_rules().cgroup(&cgroup).replace("--after", "60s");
    let recorder = setup.dump_dir(folder.path()).start()?;
    recorder.wait_for_metrics("samples of the program", |metrics| {
        metrics.sum("holmes_samples_reported_total", &[]).filter(|&count| count > 0.0)
    })?;
    recorder.trigger()?;
    Ok(Capturing { recorder, folder, _program: program, _cgroup: cgroup })
}

#[test]
fn the_first_sigterm_finishes_a_capture_under_way() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Capturing { recorder, folder, _program, _cgroup } = capturing()?;
    let stopped = recorder.stop()?;
    stopped.account.expect_balanced()?;
    ensure!(stopped.account.taken > 0, "{:?}", stopped.account);
    let written = stopped.lines.iter().any(|line| line.contains("incident written: "));
    ensure!(written, "the incident is not announced");
    let incidents = IncidentFolder::all(folder.path())?;
    ensure!(incidents.len() == 1, "{} incidents", incidents.len());
    incidents[0].validate()?;
    let profile = incidents[0].profile("cpu")?;
    ensure!(profile.cumulative("samples", "spin_in_c")? > 0, "{}", profile.top("samples"));
    Ok(())
}

#[test]
fn the_second_sigterm_leaves_at_once() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Capturing { mut recorder, folder, _program, _cgroup } = capturing()?;
    recorder.signal(libc::SIGTERM)?;
    // The first may have ended it already: then there is nothing to hurry.
    if recorder.is_running()? {
        recorder.signal(libc::SIGTERM)?;
    }
    recorder.wait()?;
    // Whatever was under way: an incident is there whole, or not at all.
    for incident in IncidentFolder::all(folder.path())? {
        incident.validate()?;
    }
    Ok(())
}

#[test]
fn the_start_says_what_is_watched_and_where_incidents_go() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    let log = recorder.log().join("\n");
    let folder = recorder.dump_dir().display().to_string();
    for said in [cgroup.name(), folder, recorder.address().to_string()] {
        ensure!(log.contains(&said), "{said} is not said at the start");
    }
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn a_target_that_goes_does_not_end_the_recorder() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::c("spin")?;
    let (gone, stays) = (TestCgroup::new()?, TestCgroup::new()?);
    let mut first = Program::start(&workload, Some(&gone))?;
    first.ask("spin", "spinning")?;
    let mut mine = Program::start(&workload, Some(&stays))?;
    mine.ask("spin", "spinning")?;
    let mut recorder = Setup::no_rules().cgroup(&gone).cgroup(&stays).start()?;
    drop(first);
    drop(gone);
    recorder.wait_for_warm_up();
    ensure!(recorder.is_running()?, "it ended with its target");
    recorder.post(&format!("/trigger?target={}", stays.name()))?;
    let profile = recorder.wait_incident(1)?.profile("cpu")?;
    ensure!(profile.cumulative("samples", "spin_in_c")? > 0, "{}", profile.top("samples"));
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
