//! `holmes-ebpf record` in its formats.

use std::fs;

use anyhow::{Context, ensure};
use holmes_tests::command::{self, Finished};
use holmes_tests::machine;
use holmes_tests::pprof_tool::pprof;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Account;
use holmes_tests::workload::Workload;
use tempfile::TempDir;

/// A program that spins, and a folder for what is recorded of it.
struct Scene {
    program: Program,
    folder: TempDir,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let mut program = Program::start(&Workload::c("spin")?, None)?;
        program.ask("spin", "spinning")?;
        Ok(Self { program, folder: tempfile::tempdir()? })
    }

    /// Records two seconds of it; a name without a slash is a file in the folder.
    fn record(&self, output: &str, more: &[&str]) -> anyhow::Result<Finished> {
        let path = match output {
            "-" => output.to_owned(),
            name => self.folder.path().join(name).display().to_string(),
        };
        let pid = self.program.pid().to_string();
        let fixed = ["record", "-p", &pid, "-d", "2s", "-o", &path];
        command::run([&fixed[..], more].concat())
    }
}

/// Checks folded lines and returns the sum of their counts: `comm;root;...;leaf count`.
fn folded(text: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').with_context(|| format!("line {line:?}"))?;
        sum += count.parse::<u64>().with_context(|| format!("line {line:?}"))?;
        ensure!(stack.starts_with("spin-c;"), "the root is not the program's name: {line}");
    }
    // The root is first: main() comes before what it calls.
    let nested = |line: &str| {
        let (outer, inner) = (line.find(";main"), line.find(";spin_in_c"));
        outer.is_some() && outer < inner
    };
    ensure!(text.lines().any(nested), "main does not stand before spin_in_c:\n{text}");
    Ok(sum)
}

fn account(finished: &Finished) -> anyhow::Result<Account> {
    let lines: Vec<String> = finished.stderr.lines().map(str::to_owned).collect();
    Account::find(&lines)?.expect_balanced()
}

#[test]
fn pprof_to_a_file() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let scene = Scene::new()?;
    let finished = scene.record("out.pb.gz", &[])?.expect_code(0)?;
    let file = scene.folder.path().join("out.pb.gz");
    let profile = ProfileView::read(&file)?;
    ensure!(profile.percent("samples", "spin_in_c")? > 90.0, "{}", profile.top("samples"));
    let total = u64::try_from(profile.total("samples")?)?;
    ensure!(account(&finished)?.reported == total, "{total} in the file; {}", finished.stderr);
    let top = pprof(&["-top".into(), file.into_os_string()])?;
    ensure!(top.contains("spin_in_c"), "{top}");
    Ok(())
}

#[test]
fn folded_to_a_file_by_its_name() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let scene = Scene::new()?;
    let finished = scene.record("out.folded", &[])?.expect_code(0)?;
    let sum = folded(&fs::read_to_string(scene.folder.path().join("out.folded"))?)?;
    ensure!(account(&finished)?.reported == sum, "{sum} in the file; {}", finished.stderr);
    Ok(())
}

#[test]
fn folded_to_standard_output() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let scene = Scene::new()?;
    let finished = scene.record("-", &["--format", "folded", "-q"])?.expect_code(0)?;
    folded(&finished.text())?;
    Ok(())
}

#[test]
fn pprof_to_standard_output() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let scene = Scene::new()?;
    let finished = scene.record("-", &["--format", "pprof"])?.expect_code(0)?;
    let profile = ProfileView::from_bytes(&finished.stdout)?;
    ensure!(profile.percent("samples", "spin_in_c")? > 90.0, "{}", profile.top("samples"));
    Ok(())
}

/// The first Ctrl-C ends the recording early, and what was recorded is kept.
#[test]
fn ctrl_c_keeps_what_was_recorded() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let scene = Scene::new()?;
    let file = scene.folder.path().join("early.pb.gz");
    let mut record = std::process::Command::new(command::recorder_binary()?);
    record.args(["record", "-d", "1h", "-p", &scene.program.pid().to_string(), "-o"]).arg(&file);
    let record = Program::spawn(record)?;
    record.hear_error("recording")?;
    // Some samples; too short only makes the profile empty.
    std::thread::sleep(std::time::Duration::from_secs(2));
    record.signal(libc::SIGINT)?;
    record.finish(holmes_tests::transcript::HANG_GUARD)?.expect_code(0)?;
    let profile = ProfileView::read(&file)?;
    ensure!(profile.cumulative("samples", "spin_in_c")? > 0, "{}", profile.top("samples"));
    Ok(())
}

/// A profile of nothing is a profile.
#[test]
fn a_process_that_sleeps_gives_a_valid_empty_profile() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let program = Program::start(&Workload::c("threads")?, None)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("empty.pb.gz");
    let (pid, output) = (program.pid().to_string(), file.display().to_string());
    command::run(["record", "-p", &pid, "-d", "1s", "-o", &output])?.expect_code(0)?;
    let profile = ProfileView::read(&file)?;
    ensure!(profile.total("samples")? == 0, "{}", profile.top("samples"));
    Ok(())
}
