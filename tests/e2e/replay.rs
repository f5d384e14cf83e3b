//! A recorded spike, or a kill for memory, gives the same incident again and again, without any rights.

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
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;
use tempfile::TempDir;

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

/// Replays a recording of one incident twice as `nobody`: it has this name both times, and the same
/// bytes. Returns one of the two.
fn replayed_twice(
    folder: &TempDir,
    recording: &Path,
    name: &str,
) -> anyhow::Result<IncidentFolder> {
    // Where `nobody` may read and write.
    let folder = folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(recording, fs::Permissions::from_mode(0o644))?;
    let binary = folder.join("holmes-ebpf");
    fs::copy(recorder_binary()?, &binary)?;
    let mut trees = Vec::new();
    let mut last = None;
    for replay in ["once", "again"] {
        let dump = folder.join(replay);
        fs::create_dir(&dump)?;
        fs::set_permissions(&dump, fs::Permissions::from_mode(0o777))?;
        let arguments = ["replay".as_ref(), recording.as_os_str(), "--dump-dir".as_ref()];
        let arguments = [&arguments[..], &[dump.as_os_str()]].concat();
        run_confined(&binary, arguments, &Confinement::default().as_nobody())?.expect_code(0)?;
        let incidents = IncidentFolder::all(&dump)?;
        ensure!(incidents.len() == 1, "{} incidents from a recording of one", incidents.len());
        ensure!(incidents[0].name() == name, "{} is not {name}", incidents[0].name());
        incidents[0].validate()?;
        trees.push(files(&dump)?);
        last = incidents.into_iter().next();
    }
    ensure!(!trees[0].is_empty() && trees[0].keys().eq(trees[1].keys()), "other files");
    for (path, bytes) in &trees[0] {
        ensure!(trees[1].get(path) == Some(bytes), "{} differs", path.display());
    }
    last.context("no incident")
}

#[test]
fn twice_the_same_byte_for_byte_as_nobody() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("spike.recording");
    let live = record_a_spike(&recording)?;
    let profile = replayed_twice(&folder, &recording, &live)?.profile("cpu")?;
    ensure!(profile.percent("samples", "spin_in_c")? > 50.0, "{}", profile.top("samples"));
    Ok(())
}

/// What was read of the victim, its neighbours and the kernel's log is in the recording: all of it is
/// the live incident's, and so is every profile's sum.
#[test]
fn a_kill_for_memory_is_replayed_with_what_was_seen() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("kill.recording");
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(48 << 20)?;
    let mut program = Program::start(&Workload::c("hog")?, Some(&cgroup))?;
    let arguments = ["--record-input".into(), recording.as_os_str().to_owned()];
    let recorder = Setup::no_rules().cgroup(&cgroup).args(arguments).start()?;
    program.ask("eat 512", "eating")?;
    let live = recorder.wait_incident(1)?;
    let stems = live.validate()?;
    let sums = |incident: &IncidentFolder| {
        let profiles = stems.iter().map(|stem| incident.profile(stem));
        profiles.map(|profile| Ok(profile_sum(&profile?))).collect::<anyhow::Result<Vec<_>>>()
    };
    let expect = sums(&live)?;
    let document = live.document().clone();
    recorder.stop()?.account.expect_balanced()?;
    let again = replayed_twice(&folder, &recording, &live.name())?;
    for part in ["victims", "memory", "target", "reason", "window", "samples"] {
        ensure!(again.document()[part] == document[part], "{part}: {:#}", again.document()[part]);
    }
    ensure!(sums(&again)? == expect, "other profiles than {expect:?}");
    let profile = again.profile("memory")?;
    let eaten = profile.percent("inuse_space", "eat_everything")?;
    ensure!(eaten > 90.0, "{eaten} %:\n{}", profile.top("inuse_space"));
    Ok(())
}

/// The sum of each value over all samples.
fn profile_sum(profile: &ProfileView) -> Vec<i64> {
    let samples = &profile.raw().sample;
    let values = samples.first().map_or(0, |sample| sample.value.len());
    (0..values).map(|at| samples.iter().map(|sample| sample.value[at]).sum()).collect()
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
