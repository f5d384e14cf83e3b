//! The heap profile that a Go program keeps of itself, from outside, is what the program says of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::goroutines::{from_inside, from_outside, groups};
use holmes_tests::machine;
use holmes_tests::pprof_tool::pprof;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

use crate::goroutines::in_each_version;

/// A release of each version of Go whose profiles are read, but for the installed one.
const VERSIONS: [&str; 10] = [
    "go1.18.10",
    "go1.19.13",
    "go1.20.14",
    "go1.21.13",
    "go1.22.12",
    "go1.23.12",
    "go1.24.11",
    "go1.25.5",
    "go1.26.0",
    "go1.27.4",
];

/// Rates at which they sample; Go's own, if `None`.
const RATES: [Option<&str>; 3] = [None, Some("memprofilerate=4096"), Some("memprofilerate=1")];

/// A program that has allocated in all ways there are, and that collects garbage no more.
fn kept(workload: &Workload, rate: Option<&str>) -> anyhow::Result<Program> {
    let mut command = workload.command();
    if let Some(rate) = rate {
        command.env("GODEBUG", rate);
    }
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    program.ask("keep 3", "kept")?;
    program.ask("collect", "collected")?;
    Ok(program)
}

/// The stacks of a `debug=1` profile, of which something is told: those of what prints it are new.
fn stacks(text: &str) -> Vec<&str> {
    let other = ["# runtime.MemStats", "0: 0 [0: 0]"];
    let mut stacks: Vec<&str> = groups(text).into_iter().map(str::trim_start).collect();
    stacks.retain(|group| !other.iter().any(|other| group.starts_with(other)));
    stacks.sort_unstable();
    stacks
}

/// A profile's values by stack. Newer profiles spell the types of generic functions out.
fn values(profile: &ProfileView) -> BTreeMap<(Vec<String>, i64), Vec<i64>> {
    let short = |name: String| match (name.find('['), name.rfind(']')) {
        (Some(from), Some(to)) => format!("{}[...]{}", &name[..from], &name[to + 1..]),
        _ => name,
    };
    let values = profile.by_stack("bytes").into_iter();
    values
        .map(|((stack, size), sum)| ((stack.into_iter().map(short).collect(), size), sum))
        .collect()
}

/// Compares both forms of a program's profile with its own: the text byte by byte, the values of each
/// stack to the last one.
pub(crate) fn compare(workload: &Workload, rate: Option<&str>) -> anyhow::Result<()> {
    let mut program = kept(workload, rate)?;
    let inside = from_inside(&mut program, "profile")?;
    let outside = from_outside(program.pid(), &["--heap"])?;
    ensure!(inside.lines().next() == outside.lines().next(), "{inside}\n{outside}");
    let (truth, told) = (stacks(&inside), stacks(&outside));
    ensure!(truth.len() >= 10 && truth == told, "inside:\n{inside}\noutside:\n{outside}");

    let folder = tempfile::tempdir()?;
    let (own, other) = (folder.path().join("own.pb.gz"), folder.path().join("other.pb.gz"));
    let text = |path: &Path| path.to_str().map(str::to_owned).context("the path is text");
    program.ask(&format!("write {}", text(&own)?), "written")?;
    from_outside(program.pid(), &["--heap", "-o", &text(&other)?])?;
    let truth = values(&ProfileView::read_of_go(&own)?);
    let told = values(&ProfileView::read(&other)?);
    ensure!(truth.len() >= 10 && truth == told, "inside:\n{truth:#?}\noutside:\n{told:#?}");
    let top = pprof(&["-top", &text(&other)?])?;
    ensure!(top.contains("Type: inuse_space") && top.contains("main.large"), "{top}");
    Ok(())
}

#[test]
fn the_installed_version_is_told_exactly() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let builds: [&[&str]; 4] = [
        &[],
        &["-ldflags=-s -w"],
        &["-buildmode=pie", "-ldflags=-s -w"],
        // Nothing inlined: the variables are found by their names.
        &["-gcflags=all=-N -l"],
    ];
    for arguments in builds {
        let workload = Workload::go_heap(None, arguments)?;
        for rate in RATES {
            compare(&workload, rate)
                .with_context(|| format!("built with {arguments:?}, {rate:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn all_versions_are_told_exactly() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    in_each_version(
        &VERSIONS,
        |version| Workload::go_heap(Some(version), &["-ldflags=-s -w"]),
        |workload| {
            RATES
                .into_iter()
                .try_for_each(|rate| compare(workload, rate).with_context(|| format!("{rate:?}")))
        },
    )
}

/// Before a program has collected garbage for the first time, all that was sampled is told; after that
/// what is new is told two collections later, as by the program itself.
#[test]
fn what_was_not_collected_yet() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::go_heap(None, &[])?, None)?;
    let keeps = |program: &Program| -> anyhow::Result<bool> {
        let text = from_outside(program.pid(), &["--heap"])?;
        let of_it = stacks(&text).into_iter().filter(|group| group.contains("main.grow+"));
        Ok(of_it.into_iter().any(|group| group.starts_with("1: 16777216 [1: 16777216]")))
    };
    program.ask("grow 16", "grown")?;
    ensure!(keeps(&program)?, "{}", from_outside(program.pid(), &["--heap"])?);
    let mut program = kept(&Workload::go_heap(None, &[])?, None)?;
    program.ask("grow 16", "grown")?;
    ensure!(!keeps(&program)?, "{}", from_outside(program.pid(), &["--heap"])?);
    program.ask("collect", "collected")?;
    ensure!(keeps(&program)?, "{}", from_outside(program.pid(), &["--heap"])?);
    Ok(())
}

/// A program that collects garbage all the time, while its profile is read: what it keeps is told
/// exactly each time.
#[test]
fn a_busy_program() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::go_heap(None, &[])?, None)?;
    program.ask("grow 16", "grown")?;
    program.ask("collect", "collected")?;
    program.ask("churn", "churning")?;
    for _ in 0..30 {
        let text = from_outside(program.pid(), &["--heap"])?;
        let grown: Vec<&str> =
            stacks(&text).into_iter().filter(|group| group.contains("main.grow+")).collect();
        ensure!(
            matches!(*grown, [group] if group.starts_with("1: 16777216 [1: 16777216]")),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn a_program_that_keeps_none_is_told_so() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let program = Program::start(&Workload::go_resident()?, None)?;
    let error = from_outside(program.pid(), &["--heap"]).expect_err("it links none").to_string();
    for part in ["links no runtime/pprof", "MemProfileRate = 0", "memory.pb.gz"] {
        ensure!(error.contains(part), "{error}");
    }
    let other = Program::start(&Workload::bare_c("threads")?, None)?;
    let error = from_outside(other.pid(), &["--heap"]).expect_err("it is in C").to_string();
    ensure!(error.contains("no Go program"), "{error}");
    Ok(())
}

/// An incident of memory holds it beside the page faults, with who keeps the memory; a replay of the
/// recorded input makes the same file.
#[test]
fn a_rise_of_memory_leaves_who_keeps_it() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program =
        Program::start(&Workload::go_heap(None, &["-ldflags=-s -w"])?, Some(&cgroup))?;
    // It keeps none, and takes nothing away.
    let _none = Program::start(&Workload::go_resident()?, Some(&cgroup))?;
    let rule = "memory=min:100,diff:0,abs:0.3,max:0,cooldown:1m";
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("input");
    let recorder = Setup::only_rule(rule)
        .args(["--record-input", input.to_str().context("the path is text")?])
        .cgroup(&cgroup)
        .start()?;
    recorder.wait_for_warm_up();
    let mib = machine::memory_mib()? / 100;
    program.ask(&format!("grow {mib}"), "grown")?;
    program.ask("collect", "collected")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-memory-"), "the folder is called {}", incident.name());
    let stems = incident.validate()?;
    ensure!(stems.contains("goheap") && stems.contains("memory"), "profiles: {stems:?}");
    let profile = incident.profile("goheap")?;
    let bytes = i64::try_from(mib << 20)?;
    let found = profile.cumulative("inuse_space", "main.grow")?;
    ensure!(found == bytes, "{found} of {bytes}:\n{}", profile.top("inuse_space"));
    ensure!(profile.label_values("pid") == [program.pid().to_string()].into(), "other processes");
    let bytes = std::fs::read(incident.file("goheap"))?;
    recorder.stop()?.account.expect_balanced()?;

    let again = tempfile::tempdir()?;
    let mut command = std::process::Command::new(recorder_binary()?);
    command.arg("replay").arg(&input).arg("--dump-dir").arg(again.path());
    let finished = Program::spawn(command)?.finish(Duration::from_secs(60))?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    let replayed = again.path().join(incident.name()).join("goheap.pb.gz");
    ensure!(std::fs::read(replayed)? == bytes, "a replay gives another profile");
    Ok(())
}
