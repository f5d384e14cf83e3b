//! What goroutines of Go 1.27 tell that those of earlier versions do not, and versions that are not known.

use anyhow::{Context, ensure};
use holmes_tests::goroutines::from_outside;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::workload::Workload;

use super::{compare_dumps, in_each_version};

/// The only one yet.
const VERSIONS: [&str; 1] = ["go1.27.4"];

/// The ways in which the setting is found: by its name, by the code, elsewhere in memory, and by name
/// where nothing is inlined.
const BUILDS: [&[&str]; 4] =
    [&[], &["-ldflags=-s -w"], &["-buildmode=pie", "-ldflags=-s -w"], &["-gcflags=all=-l"]];

/// Labels are in tracebacks if the program's own have them, and only then.
#[test]
fn labels_are_in_tracebacks_as_the_program_says() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for arguments in BUILDS {
        for setting in [None, Some("tracebacklabels=1"), Some("tracebacklabels=0")] {
            in_each_version(
                &VERSIONS,
                |version| Workload::goroutines(Some(version), arguments, false),
                |workload| {
                    let mut command = workload.command();
                    command.envs(setting.map(|setting| ("GODEBUG", setting)));
                    let mut program = Program::spawn(command)?;
                    program.hear("ready")?;
                    program.ask("label", "labelled")?;
                    let inside = compare_dumps(&mut program, false)?;
                    let labels = inside.matches("] {handler: /a, tenant: one}:\n").count();
                    let expected = if setting == Some("tracebacklabels=0") { 0 } else { 3 };
                    ensure!(labels == expected, "{labels} have labels: {inside}");
                    Ok(())
                },
            )
            .with_context(|| format!("built with {arguments:?}, {setting:?}"))?;
        }
    }
    Ok(())
}

/// Nothing is guessed for a version that is not known, or not a release.
#[test]
fn other_versions_are_refused() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for version in ["go1.28.0", "go1.28rc1", "devel go1.27-1a2b3c", "go1.27-devel_1a2b3c"] {
        let argument = format!("-ldflags=-X 'runtime.buildVersion={version}'");
        let program = Program::start(&Workload::goroutines(None, &[&argument], false)?, None)?;
        for arguments in [&[][..], &["--heap"]] {
            let told = from_outside(program.pid(), arguments);
            let error = told.err().with_context(|| format!("{version} is read"))?.to_string();
            let reason = format!("built with {version}, and programs are read of releases of Go");
            ensure!(error.contains(&reason), "{error}");
        }
    }
    Ok(())
}

/// Those that the collector has found to be blocked for ever are told as such.
#[test]
fn leaked_ones() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("goroutines.pb.gz");
    let file = path.to_str().context("the path is text")?;
    in_each_version(
        &VERSIONS,
        |version| Workload::goroutines(Some(version), &["-ldflags=-s -w"], false),
        |workload| {
            let mut program = Program::start(workload, None)?;
            program.ask("leak", "leaked")?;
            let inside = compare_dumps(&mut program, false)?;
            // Where something looks like a pointer to what they wait for, the collector misses some.
            let leaked = inside.matches(" (leaked)]:\n").count() as i64;
            ensure!((1..=5).contains(&leaked), "{leaked} are leaked: {inside}");
            from_outside(program.pid(), &["-o", file])?;
            let profile = ProfileView::read(&path)?;
            let told = |function| profile.labelled("goroutine", function, ("state", "leaked"));
            let found = told("main.receives")? + told("main.locks")?;
            ensure!(found == leaked, "{found}, not {leaked}: {}", profile.top("goroutine"));
            Ok(())
        },
    )
}
