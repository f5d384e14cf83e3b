//! Goroutines from outside are what the program says of itself.

mod awry;
mod locks;
mod newer;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::goroutines::{from_inside, from_outside, goroutines, groups};
use holmes_tests::machine;
use holmes_tests::pprof_tool::pprof;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// A release of each version of Go that goroutines are read of, but for the installed one. They are
/// fetched as modules; Go 1.19 does not build so.
const VERSIONS: [&str; 9] = [
    "go1.18.10",
    "go1.20.14",
    "go1.21.13",
    "go1.22.12",
    "go1.23.12",
    "go1.24.11",
    "go1.25.5",
    "go1.26.0",
    "go1.27.4",
];

/// The one who answers, the one who never stops, and the one whose stack Go's own profile cuts: at
/// another depth before Go 1.23.
const OTHERS: [&str; 3] = ["main.main+", "main.runs+", "main.descends+"];
const OTHER_CALLS: [&str; 2] = ["main.main(", "main.runs("];

fn blocked(workload: &Workload) -> anyhow::Result<Program> {
    let mut program = Program::start(workload, None)?;
    program.ask("block", "blocked")?;
    Ok(program)
}

/// Compares both texts of a program that has blocked goroutines, byte by byte.
fn compare(workload: &Workload) -> anyhow::Result<()> {
    let mut program = blocked(workload)?;
    program.ask("label", "labelled")?;
    let version = from_outside(program.pid(), &[])?;
    let is_old = ["go1.18", "go1.20"].iter().any(|old| version.contains(old));
    let inside = from_inside(&mut program, "profile")?;
    let outside = from_outside(program.pid(), &["--format", "debug1"])?;
    ensure!(inside.lines().next() == outside.lines().next(), "{inside}\n{outside}");
    let known = |text| -> BTreeSet<String> {
        let groups = groups(text).into_iter();
        let groups = groups.filter(|it| !OTHERS.iter().any(|other| it.contains(other)));
        groups.map(str::to_owned).collect()
    };
    let (truth, told) = (known(&inside), known(&outside));
    ensure!(truth.len() >= 15, "{truth:#?}");
    let with_labels = truth.iter().filter(|group| group.contains("\n# labels: {")).count();
    ensure!(with_labels == 11, "{with_labels} groups have labels: {inside}");
    ensure!(truth == told, "inside:\n{inside}\noutside:\n{outside}");
    let depth = groups(&outside).iter().map(|group| group.matches("main.descends+").count()).max();
    ensure!(depth.is_some_and(|depth| depth > 100), "a deep recursion has {depth:?} frames");
    compare_dumps(&mut program, is_old)?;
    Ok(())
}

/// Compares what `debug=2` prints; what the program prints.
fn compare_dumps(program: &mut Program, is_old: bool) -> anyhow::Result<String> {
    let inside = from_inside(program, "dump")?;
    let outside = from_outside(program.pid(), &["--format", "debug2"])?;
    let (truth, told) = (goroutines(&inside), goroutines(&outside));
    ensure!(truth.keys().eq(told.keys()), "{inside}\n{outside}");
    for (number, truth) in &truth {
        let told = told.get(number).context("it is there")?;
        // What is left out of a deep stack was told in other words before Go 1.21.
        let is_cut = is_old && told.contains("frames elided");
        if !is_cut && !OTHER_CALLS.iter().any(|call| truth.contains(call)) {
            ensure!(truth == told, "inside:\n{truth}\noutside:\n{told}");
        }
    }
    Ok(inside)
}

#[test]
fn the_installed_version_is_told_exactly() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for arguments in [&[][..], &["-ldflags=-s -w"], &["-buildmode=pie"]] {
        compare(&Workload::goroutines(None, arguments, false)?)
            .with_context(|| format!("built with {arguments:?}"))?;
    }
    for arguments in [&[][..], &["-buildmode=pie", "-ldflags=-s -w"]] {
        compare(&Workload::goroutines(None, arguments, true)?)
            .with_context(|| format!("with C, built with {arguments:?}"))?;
    }
    Ok(())
}

#[test]
fn all_versions_are_told_exactly() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    in_each_version(
        &VERSIONS,
        |version| Workload::goroutines(Some(version), &["-ldflags=-s -w"], false),
        compare,
    )
}

/// Checks the program that `build` makes with each of these versions of Go; those that cannot be had are told.
pub(crate) fn in_each_version(
    versions: &[&'static str],
    build: impl Fn(&'static str) -> anyhow::Result<Workload>,
    check: impl Fn(&Workload) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for &version in versions {
        match build(version) {
            Ok(workload) => check(&workload).with_context(|| version.to_owned())?,
            Err(error) => machine::not_run(&format!("{version} cannot be had: {error:#}"))?,
        }
    }
    Ok(())
}

#[test]
fn a_profile_with_states_and_what_does_not_move() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let program = blocked(&Workload::goroutines(None, &[], true)?)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("goroutines.pb.gz");
    let file = path.to_str().context("the path is text")?;
    from_outside(program.pid(), &["-o", file, "--twice", "200ms"])?;
    let profile = ProfileView::read(&path)?;
    ensure!(profile.total("goroutine")? == 44, "{}", profile.top("goroutine"));
    for (function, label, count) in [
        ("main.receives", ("wait_reason", "chan receive"), 9),
        ("main.sends", ("wait_reason", "chan send"), 3),
        ("main.locks", ("wait_reason", "sync.Mutex.Lock"), 2),
        ("main.polls", ("wait_reason", "IO wait"), 2),
        ("main.calls", ("state", "syscall"), 2),
        ("main.sleepsInC", ("state", "syscall"), 3),
        ("main.runs", ("state", "running"), 1),
        ("main.sleeps", ("state", "waiting"), 3),
    ] {
        let found = profile.labelled("goroutine", function, label)?;
        ensure!(found == count, "{function} {label:?}: {found}\n{}", profile.top("goroutine"));
    }
    // All but the one that runs, at their place since the first look.
    let tags = pprof(&["-tags", file])?;
    ensure!(tags.contains("at least 2") && tags.contains("43 (97.73%)"), "{tags}");
    let top = pprof(&["-top", file])?;
    ensure!(top.contains("Type: goroutine") && top.contains("runtime.gopark"), "{top}");
    let text = from_outside(program.pid(), &["--twice", "200ms"])?;
    ensure!(text.contains("3 goroutines [chan send], 3 blocked for at least 2"), "{text}");
    Ok(())
}

#[test]
fn a_profile_has_the_labels() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::goroutines(None, &[], false)?, None)?;
    program.ask("label", "labelled")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("goroutines.pb.gz");
    let file = path.to_str().context("the path is text")?;
    from_outside(program.pid(), &["-o", file])?;
    let profile = ProfileView::read(&path)?;
    for (label, count) in [
        (("handler", "/a"), 4),
        (("tenant", "one"), 3),
        (("outer", "1"), 2),
        (("both", "2"), 1),
        // The profile's own names are not taken.
        (("label.state", "its own"), 1),
        (("label.", "no name"), 1),
        (("state", "waiting"), 13),
    ] {
        let found = profile.labelled("goroutine", "main.receives", label)?;
        ensure!(found == count, "{label:?}: {found}\n{}", pprof(&["-tags", file])?);
    }
    Ok(())
}

/// Goroutines that come and go, on stacks that are moved, while they are read: what is told makes
/// sense, and the process goes on.
#[test]
fn a_busy_program() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::goroutines(None, &[], false)?, None)?;
    program.ask("many 2000", "many")?;
    program.ask("work 50", "working")?;
    for _ in 0..20 {
        let text = from_outside(program.pid(), &["--format", "debug1"])?;
        let parked = groups(&text).into_iter().find(|group| group.starts_with("2000 @"));
        ensure!(parked.is_some_and(|group| group.contains("main.receives+")), "{text}");
        for group in groups(&text) {
            let is_known = ["main.receives+", "main.work.", "main.grows+", "main.main+"];
            // One that is about to end is in the runtime alone.
            let is_known = is_known.iter().any(|name| group.contains(name));
            ensure!(is_known || group.contains("\truntime."), "{group}");
        }
        program.ask("collect", "collected")?;
    }
    program.ask("count", "count")?;
    Ok(())
}

#[test]
fn a_hundred_thousand() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::goroutines(None, &[], false)?, None)?;
    program.ask("many 100000", "many")?;
    let mut command = std::process::Command::new(recorder_binary()?);
    command.args(["goroutines", "-p", &program.pid().to_string()]);
    let finished = Program::spawn(command)?.finish(Duration::from_secs(60))?;
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    ensure!(text.contains("100000 goroutines [chan receive]"), "{text}");
    // How long it took is printed, not judged: machines differ.
    eprintln!("{}", finished.stderr);
    ensure!(finished.stderr.contains("100001 goroutines"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn what_is_no_go_process_is_told_so() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let other = Program::start(&Workload::bare_c("threads")?, None)?;
    let error = from_outside(other.pid(), &[]).expect_err("it is written in C").to_string();
    ensure!(error.contains("no Go program"), "{error}");
    let mut ended = Program::start(&Workload::goroutines(None, &[], false)?, None)?;
    let pid = ended.pid();
    ended.signal(libc::SIGKILL)?;
    ended.wait(Duration::from_secs(20))?;
    let error = from_outside(pid, &[]).expect_err("it has ended").to_string();
    ensure!(error.contains("has just ended"), "{error}");
    Ok(())
}

/// The rule fires when they grow, and the incident holds them by stack as of then; a replay of the
/// recorded input makes the same files.
#[test]
fn a_leak_fires_the_rule() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::goroutines(None, &[], false)?, Some(&cgroup))?;
    program.ask("many 100", "many")?;
    let rule = "goroutines=min:1000,diff:20,abs:0,max:0,cooldown:1m";
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("input");
    let recorder = Setup::only_rule(rule)
        .replace("--after", "2s")
        .args(["--record-input", input.to_str().context("the path is text")?])
        .cgroup(&cgroup)
        .start()?;
    recorder.wait_for_warm_up();
    program.ask("many 3000", "many")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-goroutines-"), "the folder is called {}", incident.name());
    ensure!(incident.validate()?.contains("goroutines"), "files: {:?}", incident.files()?);
    let profile = incident.profile("goroutines")?;
    let waits = ("wait_reason", "chan receive");
    let found = profile.labelled("goroutine", "main.receives", waits)?;
    // It may have fired while they were started.
    ensure!((1000..=3100).contains(&found), "{found}\n{}", profile.top("goroutine"));
    let name = cgroup.name();
    recorder.wait_for_metrics("the count of goroutines", |metrics| {
        let count = metrics.need("holmes_cgroup_goroutines", &[("cgroup", &name)]).ok()?;
        (count == 3101.0).then_some(())
    })?;
    let bytes = std::fs::read(incident.path().join("goroutines.pb.gz"))?;
    recorder.stop()?.account.expect_balanced()?;
    let again = tempfile::tempdir()?;
    let mut command = std::process::Command::new(recorder_binary()?);
    command.arg("replay").arg(&input).arg("--dump-dir").arg(again.path());
    let finished = Program::spawn(command)?.finish(Duration::from_secs(60))?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    let replayed = again.path().join(incident.name()).join("goroutines.pb.gz");
    ensure!(std::fs::read(replayed)? == bytes, "a replay gives another profile");
    Ok(())
}

/// It is an error of this process, and nothing else.
#[test]
fn a_process_that_ends_while_it_is_read() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::goroutines(None, &[], false)?;
    for pause in [0, 5, 20, 60] {
        let mut program = Program::start(&workload, None)?;
        program.ask("many 20000", "many")?;
        let mut command = std::process::Command::new(recorder_binary()?);
        command.args(["goroutines", "-q", "-p", &program.pid().to_string()]);
        let reader = Program::spawn(command)?;
        std::thread::sleep(Duration::from_millis(pause));
        program.signal(libc::SIGKILL)?;
        program.wait(Duration::from_secs(20))?;
        let finished = reader.finish(Duration::from_secs(60))?;
        // Either it was in time, or it says why not.
        let code = finished.status.code();
        ensure!(matches!(code, Some(0 | 1)), "{code:?}: {}", finished.stderr);
        ensure!(code == Some(0) || finished.stderr.contains("cannot tell"), "{}", finished.stderr);
    }
    Ok(())
}
