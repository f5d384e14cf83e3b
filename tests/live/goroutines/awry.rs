//! Processes that write over their own heap, execute, fork or die while their goroutines are read: an error
//! of that process, in time, and nothing else.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::goroutines::{groups, told_or_said};
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// What is done to a heap, and what is said then; nothing where the goroutines can be told.
const DAMAGE: [(&str, Option<&str>); 11] = [
    ("length", Some("too long")),
    ("overrun", Some("the list of goroutines")),
    ("nowhere", Some("not in memory")),
    ("entries", Some("not in memory")),
    ("cycle", Some("the same number")),
    ("records", Some("a state, a stack or a reason that there is not")),
    ("frames", None),
    ("bounds", Some("not in memory")),
    ("scattered", Some("not in memory")),
    ("deep", Some("the same number")),
    ("lost", Some("the same number")),
];

/// How many times as long as a hundred thousand goroutines the largest damage takes at most, which looks
/// like a million with endless stacks. Without a bound it takes a thousand times as long.
const TIMES: u32 = 50;

/// Another version of Go, with other places in a goroutine's record.
const OTHER_GO: &str = "go1.22.12";

fn start<S: AsRef<OsStr>>(
    workload: &Workload,
    arguments: &[S],
    cgroup: Option<&TestCgroup>,
) -> anyhow::Result<Program> {
    let mut command = workload.command();
    command.args(arguments);
    if let Some(cgroup) = cgroup {
        cgroup.join_at_exec(&mut command)?;
    }
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    Ok(program)
}

/// A program, as another one is told to execute it.
fn path(workload: &Workload) -> std::ffi::OsString {
    workload.command().get_program().to_owned()
}

/// A process that becomes the next of three programs all the time: one of C, two of Go.
fn circle(cgroup: Option<&TestCgroup>) -> anyhow::Result<Program> {
    let one = Workload::go_changes(None)?;
    let other = match Workload::go_changes(Some(OTHER_GO)) {
        Ok(other) => other,
        Err(error) => {
            machine::not_run(&format!("{OTHER_GO} cannot be had: {error:#}"))?;
            one.clone()
        }
    };
    start(&one, &[path(&other), path(&Workload::bare_c("changes")?)], cgroup)
}

#[test]
fn a_heap_that_is_written_over() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let workload = Workload::havoc()?;
    let healthy = start(&workload, &["100000"], None)?;
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let begin = Instant::now();
        ensure!(told_or_said(healthy.pid(), &[])?.code() == 0, "it is healthy");
        longest = longest.max(begin.elapsed());
    }
    drop(healthy);
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("goroutines.pb.gz");
    let profile = profile.to_str().context("the path is text")?;
    for (damage, said) in DAMAGE {
        let mut program = start(&workload, &["2000"], None)?;
        program.ask(damage, "done")?;
        let formats: [&[&str]; 4] =
            [&[], &["--format", "debug1"], &["--format", "debug2"], &["-o", profile]];
        for format in formats {
            let begin = Instant::now();
            let finished = told_or_said(program.pid(), format)
                .with_context(|| format!("{damage}, {format:?}"))?;
            let (took, error) = (begin.elapsed(), &finished.stderr);
            match said {
                Some(said) => {
                    ensure!(finished.code() == 1 && error.contains(said), "{damage}: {error}")
                }
                None => ensure!(finished.code() == 0, "{damage}: {error}"),
            }
            ensure!(took < longest * TIMES, "{damage}: {took:?}, a healthy one {longest:?}");
        }
        ensure!(program.ended()?.is_none(), "{damage}: the process goes on");
    }
    Ok(())
}

#[test]
fn a_process_that_executes_other_programs() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = circle(None)?;
    let (mut told, mut failed) = (0, 0);
    while told < 20 || failed < 20 {
        ensure!(told + failed < 2000, "it was told {told} times, and not {failed} times");
        let finished = told_or_said(program.pid(), &["--format", "debug1"])?;
        if finished.code() != 0 {
            failed += 1;
            continue;
        }
        told += 1;
        let text = finished.text();
        for group in groups(&text) {
            let count = group.split(' ').next().and_then(|word| word.parse::<u32>().ok());
            ensure!(count.is_some_and(|count| count <= 200), "{text}");
            // One that has not begun, or executes, is in the runtime or the standard library.
            let is_known = ["main.waits+", "main.main", "\truntime.", "\tsyscall."];
            ensure!(is_known.iter().any(|name| group.contains(name)), "{text}");
        }
    }
    ensure!(program.ended()?.is_none(), "it goes on: {}", program.stderr);
    Ok(())
}

#[test]
fn processes_that_fork_and_end() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = start(&Workload::go_changes(None)?, &["-fork"], None)?;
    program.hear("child ")?;
    let (mut told, mut failed) = (0, 0);
    while told < 10 || failed < 10 {
        ensure!(told + failed < 2000, "they were told {told} times, and not {failed} times");
        // The newest: it lives for some milliseconds.
        let lines = program.stdout.lines();
        let child = lines.last().and_then(|line| line.strip_prefix("child "));
        let child = child.context("no child")?.parse()?;
        match told_or_said(child, &[])?.code() {
            0 => told += 1,
            _ => failed += 1,
        }
        let parent = told_or_said(program.pid(), &["--format", "debug1"])?;
        // While it forks it runs: where, only its thread knows.
        let is_told = parent.code() == 0 && parent.text().contains("\truntime.main+");
        ensure!(is_told, "{}{}", parent.stderr, parent.text());
    }
    Ok(())
}

/// The rule fires for what cannot be read, and then for its healthy neighbour, which is told rightly.
#[test]
fn a_neighbour_is_told_all_the_same() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for (damage, said) in [("bounds", "not in memory"), ("deep", "the same number")] {
        let (good, bad) = (TestCgroup::new()?, TestCgroup::new()?);
        let goroutines = Workload::goroutines(None, &[], false)?;
        let mut healthy = Program::start(&goroutines, Some(&good))?;
        healthy.ask("many 100", "many")?;
        let mut broken = start(&Workload::havoc()?, &["3000"], Some(&bad))?;
        let _circle = circle(Some(&bad))?;
        let _forks = start(&Workload::go_changes(None)?, &["-fork"], Some(&bad))?;
        let rule = "goroutines=min:1000,diff:20,abs:2500,max:0,cooldown:1h";
        let recorder =
            Setup::only_rule(rule).cgroup(&good).cgroup(&bad).replace("--after", "2s").start()?;
        broken.ask(damage, "done")?;
        let line = recorder.wait_for_line(&format!("has no goroutines of pid {}", broken.pid()))?;
        ensure!(line.contains(said), "{line}");
        healthy.ask("many 3000", "many")?;
        let name = good.name();
        let count = |count: f64| {
            recorder.wait_for_metrics("the count of goroutines", |metrics| {
                let found = metrics.need("holmes_cgroup_goroutines", &[("cgroup", &name)]).ok()?;
                (found == count).then_some(())
            })
        };
        count(3101.0)?;
        // The first one is of those that cannot be read.
        let incident = recorder.wait_incident(2)?;
        let profile = incident.profile("goroutines")?;
        let waits = ("wait_reason", "chan receive");
        let found = profile.labelled("goroutine", "main.receives", waits)?;
        // It may have fired while they were started.
        ensure!((1000..=3100).contains(&found), "{found}\n{}", profile.top("goroutine"));
        broken.signal(libc::SIGKILL)?;
        broken.wait(Duration::from_secs(20))?;
        healthy.ask("many 10", "many")?;
        count(3111.0)?;
        recorder.stop()?.account.expect_balanced()?;
    }
    Ok(())
}
