//! A recorded spike gives the same incident again and again, without any rights.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::{recorder_binary, run_confined};
use holmes_tests::confine::Confinement;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// Every file under a folder, by its path in it.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

#[test]
fn twice_the_same_byte_for_byte_as_nobody() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("spike.recording");
    let live = record_a_spike(&recording)?;

    // Where `nobody` may read and write.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(&recording, fs::Permissions::from_mode(0o644))?;
    let binary = folder.path().join("holmes-ebpf");
    fs::copy(recorder_binary()?, &binary)?;
    let mut trees = Vec::new();
    for name in ["once", "again"] {
        let dump = folder.path().join(name);
        fs::create_dir(&dump)?;
        fs::set_permissions(&dump, fs::Permissions::from_mode(0o777))?;
        let arguments = ["replay".as_ref(), recording.as_os_str(), "--dump-dir".as_ref()];
        let arguments = [&arguments[..], &[dump.as_os_str()]].concat();
        run_confined(&binary, arguments, &Confinement::default().as_nobody())?.expect_code(0)?;
        let incidents = IncidentFolder::all(&dump)?;
        ensure!(incidents.len() == 1, "{} incidents from a recording of one", incidents.len());
        ensure!(incidents[0].name() == live, "{} is not {live}", incidents[0].name());
        incidents[0].validate()?;
        let profile = incidents[0].profile("cpu")?;
        ensure!(profile.percent("samples", "spin_in_c")? > 50.0, "{}", profile.top("samples"));
        trees.push(files(&dump)?);
    }
    ensure!(!trees[0].is_empty() && trees[0].keys().eq(trees[1].keys()), "other files");
    for (path, bytes) in &trees[0] {
        ensure!(trees[1].get(path) == Some(bytes), "{} differs", path.display());
    }
    Ok(())
}

/// Lets a program spike under a recorder that writes down its input; returns the name of the
/// incident it cut. With `HOLMES_SAVE_FIXTURE` set the recording is kept at that path: so the one
/// in `tests/fixtures` was made.
fn record_a_spike(recording: &Path) -> anyhow::Result<String> {
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("spin")?, Some(&cgroup))?;
    let cpus = u32::try_from(machine::cpus())?;
    let rule = format!("cpu=min:{:.3},diff:25,abs:0,max:0,cooldown:1m", 30.0 / f64::from(cpus));
    let arguments = ["--record-input".into(), recording.as_os_str().to_owned()];
    let recorder = Setup::only_rule(&rule).cgroup(&cgroup).args(arguments).start()?;
    recorder.wait_for_warm_up();
    program.ask("spin", "spinning")?;
    let incident = recorder.wait_incident(1)?;
    let name = incident.name();
    recorder.stop()?.account.expect_balanced()?;
    if let Some(path) = std::env::var_os("HOLMES_SAVE_FIXTURE") {
        fs::copy(recording, &path).with_context(|| format!("keeping {}", path.display()))?;
    }
    Ok(name)
}
