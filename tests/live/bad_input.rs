//! What is missing or wrong on the machine: a message that says what to do, and nothing lost.
//!
//! What is wrong on the command line alone is tested in `integration`, without root.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::{self, recorder_binary, run_confined};
use holmes_tests::confine::Confinement;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// Runs the recorder with these arguments: it must fail, and say all of `words`.
fn refused(setup: Setup, words: &[&str]) -> anyhow::Result<()> {
    let mut recorder = setup.spawn()?;
    let status = recorder.wait()?;
    let said = recorder.log().join("\n");
    ensure!(status.code() == Some(1), "it ended with {status:?}, saying:\n{said}");
    ensure!(!said.contains("panicked"), "it panicked:\n{said}");
    for word in words {
        let has = said.to_lowercase().contains(&word.to_lowercase());
        ensure!(has, "it does not say {word:?}, but:\n{said}");
    }
    Ok(())
}

#[test]
fn no_capability() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let bare = Confinement::default().without_capabilities();
    refused(Setup::default().confined(bare.clone()), &["CAP_BPF", "CAP_PERFMON", "sudo"])?;
    // The doctor agrees.
    run_confined(&recorder_binary()?, ["check"], &bare)?.expect_code(1).and_then(|finished| {
        let said = finished.text() + &finished.stderr;
        ensure!(said.contains("CAP_BPF"), "`check` does not name the capability:\n{said}");
        Ok(())
    })
}

#[test]
fn a_cgroup_that_does_not_exist() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let missing = cgroup.path().join("nobody-made-this");
    let setup = Setup::default().args(["--cgroup".into(), missing.into_os_string()]);
    refused(setup, &["nobody-made-this", "exist"])
}

#[test]
fn a_folder_that_is_no_cgroup() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    refused(Setup::default().args(["--cgroup", &path]), &[&path, "cgroup"])
}

#[test]
fn a_process_that_is_gone() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let program = Program::start(&Workload::c("spin")?, None)?;
    let pid = program.pid().to_string();
    drop(program);
    refused(Setup::default().args(["--pid", &pid]), &[&pid])?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pb.gz").display().to_string();
    command::run(["record", "-p", &pid, "-d", "1s", "-o", &output])?
        .expect_code(1)?
        .expect_said(&[&pid])
}

#[test]
fn a_dump_folder_that_is_a_file() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("in-the-way");
    fs::write(&file, "mine")?;
    refused(Setup::default().dump_dir(&file), &["in-the-way"])?;
    refused(Setup::default().dump_dir(&file.join("below")), &["in-the-way"])?;
    ensure!(fs::read_to_string(&file)? == "mine", "the file in the way was changed");
    Ok(())
}

#[test]
fn an_address_in_use() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    refused(Setup::default().replace("--listen", &address), &[&address, "--listen"])
}

/// The dump folder fills up: the incident that does not fit is reported, the recorder goes on, and
/// the next one is written when there is room again.
#[test]
fn a_full_dump_folder() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    program.ask("spin", "spinning")?;
    let folder = tempfile::tempdir()?;
    let small = Confinement::default().small_disk(folder.path(), 1 << 20)?;
    let setup = Setup::no_rules().cgroup(&cgroup).dump_dir(folder.path()).confined(small);
    let mut recorder = setup.start()?;
    // The file system is in the recorder's own mount namespace; /proc leads there.
    let inside = folder.path().strip_prefix("/")?;
    let inside = Path::new("/proc").join(recorder.pid().to_string()).join("root").join(inside);
    let filler = inside.join("filler");
    fill(&filler)?;
    let from = recorder.log().len();
    recorder.trigger()?;
    let line = recorder.wait_for_line_after(from, "No space left on device")?;
    ensure!(recorder.is_running()?, "it ended: {line}");
    let left = IncidentFolder::all(&inside)?;
    ensure!(left.is_empty(), "a part of an incident is there: {left:?}");
    fs::remove_file(&filler).context("removing the filler")?;
    recorder.trigger()?;
    recorder.wait_for_line_after(from, "incident written: ")?;
    let incidents = IncidentFolder::all(&inside)?;
    ensure!(incidents.len() == 1, "{} incidents", incidents.len());
    incidents[0].validate()?;
    let failed = recorder.wait_for_metrics("holmes_captures_total", |metrics| {
        metrics.sum("holmes_captures_total", &[])
    })?;
    ensure!(failed >= 2.0, "of two captures {failed} were counted");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

/// Writes until the file system is full.
fn fill(path: &Path) -> anyhow::Result<()> {
    let mut file = fs::File::create(path).with_context(|| format!("making {}", path.display()))?;
    loop {
        match file.write_all(&[b'x'; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("filling the disk"),
        }
    }
}

#[test]
fn without_tracefs_it_still_samples() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("spin")?, None)?;
    program.ask("spin", "spinning")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("out.pb.gz");
    let (pid, output) = (program.pid().to_string(), file.display().to_string());
    let arguments = ["record", "-p", &pid, "-d", "2s", "-o", &output];
    let confinement = Confinement::default().without_tracefs();
    run_confined(&recorder_binary()?, arguments, &confinement)?.expect_code(0)?;
    let profile = ProfileView::read(&file)?;
    ensure!(profile.percent("samples", "spin_in_c")? > 90.0, "{}", profile.top("samples"));
    Ok(())
}

/// Where nothing can be written, the samples were taken in vain: that is said before they are.
#[test]
fn a_recording_that_cannot_be_written() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    command::run(["record", "-a", "-d", "1s", "-o", "/nonexistent/out.pb.gz"])?
        .expect_code(1)?
        .expect_said(&["/nonexistent"])
}
