//! Stacks of processes that do not stay what they were: short lives, libraries loaded late, files
//! deleted and replaced, other mount namespaces, exec and fork.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;
use tempfile::TempDir;

/// A recording that runs.
struct Recording {
    recorder: Program,
    folder: TempDir,
}

impl Recording {
    /// Begins to record `target` (`-p PID`, `--cgroup PATH`), and returns when it does.
    fn begin(target: [&str; 2], seconds: u32) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(command::recorder_binary()?);
        command.args(["record", "-F", "499", "-d", &format!("{seconds}s"), "-o"]);
        command.arg(folder.path().join("x.pb.gz")).args(target).stdin(Stdio::null());
        let recorder = Program::spawn(command)?;
        recorder.hear_error("recording")?;
        Ok(Self { recorder, folder })
    }

    /// Waits for its end.
    fn end(self) -> anyhow::Result<ProfileView> {
        self.recorder.finish(HANG_GUARD)?.expect_code(0)?;
        ProfileView::read(&self.folder.path().join("x.pb.gz"))
    }
}

/// Records a process for some seconds.
fn recorded(pid: u32) -> anyhow::Result<ProfileView> {
    Recording::begin(["-p", &pid.to_string()], 4)?.end()
}

/// Of the stacks with the last of `names`, this share must have them all, outermost first; and it
/// must have been seen often.
fn expect_share(profile: &ProfileView, names: &[&str], percent: i64) -> anyhow::Result<()> {
    /// A twentieth of what one CPU gives in four seconds.
    const FEWEST: i64 = 100;
    let leaf = names.last().copied().context("no names")?;
    let all = profile.cumulative("samples", leaf)?;
    let whole = profile.chain("samples", names)?;
    ensure!(all >= FEWEST, "{leaf} has {all} samples:\n{}", profile.top("samples"));
    ensure!(100 * whole >= percent * all, "{names:?}: {whole} of {all} samples of {leaf}");
    Ok(())
}

/// Each lives a fifth of a second; half of them run the program anew, half are its forks.
#[test]
fn short_lives_are_named_and_whole() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::bare_c("churn")?, Some(&cgroup))?;
    let path = cgroup.path().display().to_string();
    let recording = Recording::begin(["--cgroup", &path], 8)?;
    program.ask("churn 20 200", "churned 20")?;
    let profile = recording.end()?;
    let pids = profile.label_values("pid").len();
    ensure!(pids >= 20, "{pids} processes");
    expect_share(&profile, &["main", "brief_life"], 80)?;
    // The forks have their parent's stack above their own.
    let forked = profile.chain("samples", &["main", "run_child", "brief_life"])?;
    let all = profile.cumulative("samples", "brief_life")?;
    ensure!(4 * forked >= all, "{forked} of {all} samples are a fork's");
    Ok(())
}

#[test]
fn a_library_that_is_loaded_late_is_walked_and_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let library = Workload::library("plugin")?;
    let mut program = Program::start(&Workload::bare_c("loader")?, None)?;
    let recording = Recording::begin(["-p", &program.pid().to_string()], 5)?;
    program.ask(&format!("load {}", library.display()), "loaded")?;
    expect_share(&recording.end()?, &["main", "call_plugin", "spin_in_plugin"], 80)
}

#[test]
fn an_executable_that_is_deleted_is_walked_and_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gone");
    let workload = Workload::bare_c("spin")?.copied_to(&file)?;
    let mut program = Program::start(&workload, None)?;
    program.ask("spin", "spinning")?;
    fs::remove_file(&file)?;
    expect_share(&recorded(program.pid())?, &["main", "spin_in_c"], 90)
}

/// The names are those of the program that runs, not of the one that has its name now.
#[test]
fn an_executable_that_is_replaced_is_walked_and_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (file, newer) = (folder.path().join("program"), folder.path().join("newer"));
    let workload = Workload::bare_c("spin")?.copied_to(&file)?;
    Workload::bare_c("stacks")?.copied_to(&newer)?;
    let mut program = Program::start(&workload, None)?;
    program.ask("spin", "spinning")?;
    fs::rename(&newer, &file)?;
    let profile = recorded(program.pid())?;
    expect_share(&profile, &["main", "spin_in_c"], 90)?;
    for name in ["wander", "went_left", "arrived"] {
        ensure!(profile.cumulative("samples", name)? == 0, "{name} is another program's");
    }
    Ok(())
}

/// Its file is on a file system that only the program sees.
#[test]
fn a_program_in_another_mount_namespace_is_walked_and_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(unshare) = machine::installed("unshare") else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let script =
        "mount -t tmpfs -o size=8m none \"$1\" && cp \"$0\" \"$1/hidden\" && exec \"$1/hidden\"";
    let mut command = Command::new(unshare);
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command.arg(Workload::bare_c("spin")?.program()).arg(folder.path()).stdin(Stdio::piped());
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    program.ask("spin", "spinning")?;
    ensure!(!folder.path().join("hidden").exists(), "the file can be seen from here");
    expect_share(&recorded(program.pid())?, &["main", "spin_in_c"], 90)
}

/// The shell's mappings are known when the process becomes another program.
#[test]
fn an_exec_in_the_same_process_is_walked_and_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut command = Command::new("sh");
    let script =
        "echo ready; read go; i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done; exec \"$0\"";
    command.args(["-c", script]).arg(Workload::bare_c("spin")?.program()).stdin(Stdio::piped());
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    let recording = Recording::begin(["-p", &program.pid().to_string()], 6)?;
    program.tell("go")?;
    program.hear("ready")?;
    program.ask("spin", "spinning")?;
    expect_share(&recording.end()?, &["main", "spin_in_c"], 80)
}
