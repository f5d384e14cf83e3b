//! Code that a JIT compiler made: named by the perf-map file of its process.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::command;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::workload::Workload;

/// A program that spins, until its compiler has compiled that; its perf-map file goes with it.
struct Spinning {
    program: Program,
    map: PathBuf,
}

impl Spinning {
    fn start(workload: &Workload) -> anyhow::Result<Self> {
        let mut program = Program::start(workload, None)?;
        let map = PathBuf::from(format!("/tmp/perf-{}.map", program.pid()));
        program.ask("spin", "spinning")?;
        // Enough rounds for the last stage of any compiler.
        std::thread::sleep(Duration::from_secs(3));
        Ok(Self { program, map })
    }

    fn record(&self) -> anyhow::Result<ProfileView> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("cpu.pb.gz");
        let (pid, output) = (self.program.pid().to_string(), file.display().to_string());
        command::run(["record", "-p", &pid, "-d", "2s", "-o", &output])?.expect_code(0)?;
        ProfileView::read(&file)
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        // It may not have been written.
        let _ = std::fs::remove_file(&self.map);
    }
}

#[test]
fn node_functions_are_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::node_spin()?;
    let profile = Spinning::start(&workload)?.record()?;
    let share = profile.percent("samples", workload.spins_in)?;
    ensure!(share > 70.0, "{share:.1} %:\n{}", profile.top("samples"));
    Ok(())
}

#[test]
fn java_methods_are_named_once_the_jvm_has_been_asked() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::java_spin()?;
    let spinning = Spinning::start(&workload)?;
    let before = spinning.record()?;
    ensure!(before.cumulative("samples", workload.spins_in)? == 0, "{}", before.top("samples"));
    let jcmd = Command::new("jcmd")
        .args([&spinning.program.pid().to_string(), "Compiler.perfmap"])
        .output()
        .context("running jcmd: is a JDK installed?")?;
    ensure!(jcmd.status.success(), "{jcmd:?}");
    let profile = spinning.record()?;
    let share = profile.percent("samples", workload.spins_in)?;
    ensure!(share > 70.0, "{share:.1} %:\n{}", profile.top("samples"));
    Ok(())
}
