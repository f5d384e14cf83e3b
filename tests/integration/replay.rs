//! Replaying the recording that is kept in `tests/fixtures`, and recordings that are broken.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use holmes_tests::command::{self, Finished};
use holmes_tests::incident::IncidentFolder;

/// A spike of the C workload, recorded by `HOLMES_SAVE_FIXTURE=<this path> cargo test -p
/// holmes-tests --test e2e replay`.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join("spike.recording")
}

fn replay(recording: &Path, dump: &Path) -> anyhow::Result<Finished> {
    let arguments = ["replay".as_ref(), recording.as_os_str(), "--dump-dir".as_ref()];
    command::run([&arguments[..], &[dump.as_os_str()]].concat())
}

#[test]
fn the_kept_spike_is_still_caught() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    replay(&fixture(), folder.path())?.expect_code(0)?;
    let incidents = IncidentFolder::all(folder.path())?;
    ensure!(incidents.len() == 1, "{} incidents", incidents.len());
    let incident = &incidents[0];
    let stems = incident.validate()?;
    ensure!(stems.contains("cpu") && stems.contains("cpu.base"), "profiles: {stems:?}");
    let whole = incident.profile("cpu")?;
    ensure!(whole.percent("samples", "spin_in_c")? > 50.0, "{}", whole.top("samples"));
    let base = incident.profile("cpu.base")?;
    ensure!(base.cumulative("samples", "quiet_work_in_c")? > 0, "{}", base.top("samples"));
    Ok(())
}

/// Other rules over the same recording: no spike of this one is above 100 %.
#[test]
fn with_other_rules_it_is_no_spike() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let recording = fixture().display().to_string();
    let dump = folder.path().display().to_string();
    let rule = "cpu=min:100,diff:0,abs:100";
    command::run(["replay", &recording, "--dump-dir", &dump, "--rule", rule])?.expect_code(0)?;
    let incidents = IncidentFolder::all(folder.path())?;
    ensure!(incidents.is_empty(), "{} incidents", incidents.len());
    Ok(())
}

/// The recorder was killed while it wrote: what is whole is used.
#[test]
fn a_recording_cut_short_is_replayed_as_far_as_it_goes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let bytes = fs::read(fixture()).context("reading the fixture")?;
    let short = folder.path().join("short.recording");
    fs::write(&short, &bytes[..bytes.len() - 7])?;
    let finished = replay(&short, &folder.path().join("dump"))?.expect_code(0)?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn what_is_no_recording_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("dump");
    let missing = folder.path().join("missing.recording");
    replay(&missing, &dump)?.expect_code(1)?.expect_said(&["missing.recording"])?;
    let broken: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("text", b"Dear diary,\n"),
        ("json", b"{\"hello\": 1}\n{\"bye\": 2}\n"),
        ("binary", &[0xff; 4096]),
    ];
    for (name, bytes) in broken {
        let file = folder.path().join(name);
        fs::write(&file, bytes)?;
        let finished = replay(&file, &dump)?.expect_code(1)?;
        ensure!(!finished.stderr.contains("panicked"), "{name}: {}", finished.stderr);
        finished.expect_said(&["recording"])?;
    }
    Ok(())
}
