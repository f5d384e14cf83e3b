//! SIGHUP reloads the configuration file; a broken one changes nothing and is reported.

use std::path::Path;

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup};
use holmes_tests::workload::Workload;

/// A file in which CPU spikes above `min` percent fire.
fn write(file: &Path, min: f64) -> anyhow::Result<()> {
    let text = format!(
        "[rules]\nmemory = \"off\"\nthreads = \"off\"\n\
         [rules.cpu]\nmin = {min:.3}\ndiff = 25\nabs = 0\ncooldown = \"1s\"\n"
    );
    Ok(std::fs::write(file, text)?)
}

/// Sends SIGHUP and waits for a line about it.
fn reload(recorder: &Recorder, said: &str) -> anyhow::Result<String> {
    let from = recorder.log().len();
    recorder.signal(libc::SIGHUP)?;
    recorder.wait_for_line_after(from, said)
}

#[test]
fn a_good_file_takes_effect_and_a_broken_one_does_not() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("holmes.toml");
    // No spike is above this one: it is off in effect.
    write(&file, 100.0)?;
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    let arguments = ["--config".into(), file.clone().into_os_string()];
    let recorder = Setup::default().args(arguments).cgroup(&cgroup).start()?;
    recorder.wait_for_warm_up();
    program.ask("spin", "spinning")?;
    recorder.wait_for_warm_up();
    program.ask("rest", "resting")?;
    recorder.wait_for_warm_up();
    ensure!(recorder.log().iter().all(|line| !line.contains("[Holmes]")), "a rule fired");

    write(&file, 45.0 / f64::from(u32::try_from(machine::cpus())?))?;
    reload(&recorder, "reload")?;
    program.ask("spin", "spinning")?;
    recorder.wait_incident(1)?;
    program.ask("rest", "resting")?;

    // The key, and where it is.
    std::fs::write(&file, "[rules.cpu]\nmin = 1\ncooldwon = \"1s\"\n")?;
    let line = reload(&recorder, "cooldwon")?;
    ensure!(line.contains("holmes.toml:3:"), "the line's number is not told: {line}");
    recorder.wait_for_warm_up();
    // Still the rules of the file that was good.
    program.ask("spin", "spinning")?;
    recorder.wait_incident(2)?;

    // The file is gone: the same.
    program.ask("rest", "resting")?;
    std::fs::remove_file(&file)?;
    reload(&recorder, "holmes.toml")?;
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
