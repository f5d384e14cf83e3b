//! What goroutines of Go 1.27 tell that those of earlier versions do not, and versions that are not
//! known.

use anyhow::{Context, ensure};
use holmes_tests::goroutines::from_outside;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::workload::Workload;

use super::{compare, compare_dumps, in_each_version, locks};
use crate::goheap;

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

/// A version that is not known is read by the program's own debug information.
#[test]
fn another_version_is_told_exactly() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for version in ["go1.28.0", "devel go1.28-1a2b3c", "go1.27-devel_1a2b3c"] {
        let flags = claims(version);
        for arguments in [&[&*flags][..], &[&*flags, "-buildmode=pie"]] {
            in_each_version(
                &VERSIONS,
                |real| Workload::goroutines(Some(real), arguments, false),
                |workload| {
                    compare(workload)?;
                    locks::compare(workload)?;
                    Ok(())
                },
            )?;
            in_each_version(
                &VERSIONS,
                |real| Workload::goroutines(Some(real), arguments, true),
                compare,
            )
            .context("with C")?;
            // It has no labels, nor what reads them.
            in_each_version(
                &VERSIONS,
                |real| Workload::go_resident_by(real, arguments),
                |workload| {
                    let program = Program::start(workload, None)?;
                    let text = from_outside(program.pid(), &[])?;
                    let told = format!("({version}, read by its debug information)");
                    ensure!(text.contains(&told), "{text}");
                    Ok(())
                },
            )?;
            in_each_version(
                &VERSIONS,
                |real| Workload::go_heap(Some(real), arguments),
                |workload| goheap::compare(workload, None),
            )
            .with_context(|| format!("the heap of {arguments:?}"))?;
        }
    }
    Ok(())
}

/// Nothing is guessed of a version that is not known: without debug information, or where that says that more
/// than places has changed, as it does of Go 1.26.
#[test]
fn other_versions_are_refused() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for version in ["go1.28.0", "go1.28rc1", "devel go1.27-1a2b3c", "go1.26-devel_1a2b3c", "go1.17"]
    {
        for (real, more) in [("go1.27.4", " -s -w"), ("go1.26.0", ""), ("go1.26.0", " -s -w")] {
            let flags = claims(version) + more;
            in_each_version(
                &[real],
                |real| Workload::goroutines(Some(real), &[&flags], false),
                |workload| {
                    let program = Program::start(workload, None)?;
                    for arguments in [&[][..], &["--heap"]] {
                        let told = from_outside(program.pid(), arguments);
                        let error = told.err().context("it is read")?.to_string();
                        let reason =
                            format!("built with {version}, and programs are read of releases");
                        ensure!(error.contains(&reason), "{error}");
                    }
                    Ok(())
                },
            )
            .with_context(|| flags.clone())?;
        }
    }
    Ok(())
}

/// The argument by which a program says that it was built by another version.
fn claims(version: &str) -> String {
    format!("-ldflags=-X 'runtime.buildVersion={version}'")
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
