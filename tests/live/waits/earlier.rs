//! What threads have waited for since before the recorder began, or since nobody recorded it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

use super::recorded;

/// How long the recorder watches what goes on already.
const WATCHED: Duration = Duration::from_secs(2);
const WATCHED_NS: i64 = 2_000_000_000;

/// How long it has gone on before.
const BEFORE: Duration = Duration::from_secs(1);

/// Records a program that does nothing meanwhile.
fn watched(program: &mut Program) -> anyhow::Result<ProfileView> {
    std::thread::sleep(BEFORE);
    let ((), profile) = recorded(program, |_| {
        std::thread::sleep(WATCHED);
        Ok(())
    })?;
    // Longer than the profile: for the whole of it, and before.
    for blocked_for in profile.label_values("blocked_for") {
        ensure!(blocked_for.parse::<i64>()? >= WATCHED_NS, "blocked for {blocked_for} ns");
    }
    Ok(profile)
}

/// Stacks that are not whole, as the profile says of itself.
fn not_whole(profile: &ProfileView) -> Vec<&str> {
    let walks = profile.comments().filter(|comment| comment.starts_with("walk_"));
    walks.filter(|comment| !comment.starts_with("walk_outermost")).collect()
}

#[test]
fn a_deadlock_is_older_than_the_recorder() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::cpp("deadlock")?, None)?;
    let answer = program.ask("lock", "deadlocked ")?;
    let profile = watched(&mut program)?;
    let mut tids = answer.trim_start_matches("deadlocked ").split(' ');
    let mut tid = || tids.next().context("two thread ids");
    let (first, second) = (tid()?, tid()?);
    for (function, holder) in [("first_then_second", second), ("second_then_first", first)] {
        let delay = profile.labelled("delay", function, ("holder", holder))?;
        ensure!(delay >= WATCHED_NS, "{function}: {delay} ns\n{}", profile.top("delay"));
        let futex = profile.labelled("delay", function, ("wait", "futex"))?;
        ensure!(futex == delay, "{function}: {futex} ns of {delay} for a futex");
        // Nobody saw it begin.
        ensure!(profile.labelled("blockings", function, ("holder", holder))? == 0);
        let kernel = profile.chain("delay", &[function, "futex_wait"])?;
        ensure!(kernel >= delay, "no kernel stack\n{}", profile.top("delay"));
    }
    ensure!(!profile.label_values("blocked_for").is_empty(), "since when is not told");
    ensure!(not_whole(&profile).is_empty(), "{:?}", not_whole(&profile));
    Ok(())
}

/// Of the waits of a thread that waits thousands of times a second few are recorded. The one that does not end
/// is known all the same.
#[test]
fn a_busy_thread_hangs() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::bare_c("waits")?, None)?;
    let (lock, profile) = recorded(&mut program, |program| {
        let answer = program.ask("busy 3000", "hangs at ")?;
        std::thread::sleep(WATCHED);
        Ok(answer.trim_start_matches("hangs at ").to_owned())
    })?;
    let delay = profile.labelled("delay", "wait_for_lock", ("lock", &lock))?;
    ensure!(delay >= WATCHED_NS, "{delay} ns for the lock {lock}\n{}", profile.top("delay"));
    let holder = program.pid().to_string();
    let held = profile.labelled("delay", "wait_for_lock", ("holder", &holder))?;
    ensure!(held == delay, "{held} ns of {delay} because of {holder}");
    Ok(())
}

#[test]
fn a_thousand_threads_wait_already() -> anyhow::Result<()> {
    const THREADS: i64 = 1000;
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::cpp("deadlock")?, None)?;
    program.ask(&format!("leak {THREADS}"), "leaked")?;
    let profile = watched(&mut program)?;
    let delay = profile.chain("delay", &["start_thread", "wait_for_what_never_comes"])?;
    ensure!(delay >= THREADS * WATCHED_NS, "{delay} ns\n{}", profile.top("delay"));
    // They began together, and are told together.
    ensure!(profile.raw().sample.len() < 20, "{} samples", profile.raw().sample.len());
    ensure!(not_whole(&profile).is_empty(), "{:?}", not_whole(&profile));
    Ok(())
}

#[test]
fn an_interpreter_waits_already() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::python("gil.py")?, None)?;
    let profile = watched(&mut program)?;
    let delay = profile.chain("delay", &["_PyEval_EvalFrameDefault", "read"])?;
    ensure!(delay >= WATCHED_NS, "{delay} ns\n{}", profile.top("delay"));
    ensure!(not_whole(&profile).is_empty(), "{:?}", not_whole(&profile));
    Ok(())
}

#[test]
fn monitors_in_java_are_older_than_the_recorder() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(jcmd) = machine::installed("jcmd") else { return Ok(()) };
    let mut program = Program::start(&Workload::java_deadlock()?, None)?;
    program.ask("warm", "warm")?;
    program.ask("lock", "deadlocked")?;
    let pid = program.pid();
    let map = PathBuf::from(format!("/tmp/perf-{pid}.map"));
    let asked = Command::new(jcmd).args([&pid.to_string(), "Compiler.perfmap"]).output();
    let profile = asked.context("running jcmd").and_then(|asked| {
        ensure!(asked.status.success(), "the JVM wrote no map");
        watched(&mut program)
    });
    // It belongs to nobody any more.
    let _ = std::fs::remove_file(&map);
    let profile = profile?;
    for function in ["Deadlock.firstThenSecond", "Deadlock.secondThenFirst"] {
        let delay = profile.labelled("delay", function, ("wait", "futex"))?;
        // They wake each second to look again: what was found before the JVM's own table was made, which takes
        // longest, is not below its functions.
        ensure!(delay >= WATCHED_NS / 4, "{function}: {delay} ns\n{}", profile.top("delay"));
    }
    Ok(())
}

/// And a replay of the recorded input tells the same.
#[test]
fn an_incident_tells_what_was_waited_for_before() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::cpp("deadlock")?, Some(&cgroup))?;
    program.ask("leak 20", "leaked")?;
    std::thread::sleep(BEFORE);
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("input");
    let recorder = Setup::no_rules()
        .args(["--record-input", input.to_str().context("the path is text")?])
        .cgroup(&cgroup)
        .start()?;
    std::thread::sleep(WATCHED);
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    for stem in ["blocked", "blocked.base"] {
        let profile = incident.profile(stem)?;
        let delay = profile.labelled("delay", "wait_for_what_never_comes", ("wait", "futex"))?;
        ensure!(delay > 0, "{stem}: nobody waits\n{}", profile.top("delay"));
    }
    let name = incident.name();
    let bytes = std::fs::read(incident.file("blocked"))?;
    recorder.stop()?.account.expect_balanced()?;
    let again = tempfile::tempdir()?;
    let mut command = Command::new(recorder_binary()?);
    command.arg("replay").arg(&input).arg("--dump-dir").arg(again.path());
    let finished = Program::spawn(command)?.finish(HANG_GUARD)?.expect_code(0)?;
    let replayed = again.path().join(&name).join("blocked.pb.gz");
    ensure!(std::fs::read(replayed)? == bytes, "another profile: {}", finished.stderr);
    Ok(())
}
