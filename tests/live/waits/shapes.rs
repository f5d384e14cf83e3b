//! How waiting looks in other languages: a deadlock, threads that are left behind, a lock held for too long,
//! an interpreter's own lock.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

use super::recorded;

/// Each of the two waits for the lock that the other one holds, and the profile says so.
#[test]
fn a_deadlock_in_cpp_names_both_holders() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::cpp("deadlock")?, None)?;
    let (answer, profile) = recorded(&mut program, |program| {
        let answer = program.ask("lock", "deadlocked ")?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(answer)
    })?;
    let mut tids = answer.trim_start_matches("deadlocked ").split(' ');
    let mut tid = || tids.next().context("two thread ids");
    let (first, second) = (tid()?, tid()?);
    for (function, holder) in [("first_then_second", second), ("second_then_first", first)] {
        let delay = profile.labelled("delay", function, ("holder", holder))?;
        ensure!(delay >= 1_000_000_000, "{function}: {delay} ns\n{}", profile.top("delay"));
    }
    Ok(())
}

/// The rule of threads fires; the incident says who makes them, and what they wait for.
#[test]
fn threads_left_behind_in_cpp() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::cpp("deadlock")?, Some(&cgroup))?;
    let setup = Setup::only_rule("threads=min:50,diff:25,abs:0,max:0,cooldown:1m");
    let recorder = setup.cgroup(&cgroup).start()?;
    program.ask("leak 5", "leaked")?;
    recorder.wait_for_warm_up();
    program.ask("leak 100", "leaked")?;
    let incident = recorder.wait_incident(1)?;
    let created = incident.profile("threads")?.cumulative("alive", "leak_threads")?;
    ensure!(created >= 100, "{created} threads of leak_threads are alive");
    let profile = incident.profile("blocked")?;
    let waits = profile.labelled("blockings", "wait_for_what_never_comes", ("wait", "futex"))?;
    ensure!(waits >= 100, "{waits} wait\n{}", profile.top("delay"));
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn a_lock_held_while_asleep_in_rust() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::rust("held")?, None)?;
    program.ask("hold 10", "held ")?;
    let (_, profile) = recorded(&mut program, |program| program.ask("hold 2000", "held "))?;
    for (function, cause) in [("wait_for_who_sleeps", "futex"), ("sleep_with_the_lock", "sleep")] {
        let delay = profile.labelled("delay", function, ("wait", cause))?;
        ensure!(
            (1_900_000_000..3_000_000_000).contains(&delay),
            "{function}: {delay} ns of {cause}\n{}",
            profile.top("delay")
        );
    }
    Ok(())
}

#[test]
fn a_deadlock_of_monitors_in_java() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(jcmd) = machine::installed("jcmd") else { return Ok(()) };
    let mut program = Program::start(&Workload::java_deadlock()?, None)?;
    program.ask("warm", "warm")?;
    let pid = program.pid();
    let map = PathBuf::from(format!("/tmp/perf-{pid}.map"));
    let recorded = recorded(&mut program, |program| {
        program.ask("lock", "deadlocked")?;
        std::thread::sleep(Duration::from_secs(1));
        let asked = Command::new(jcmd).args([&pid.to_string(), "Compiler.perfmap"]).output();
        ensure!(asked.context("running jcmd")?.status.success(), "the JVM wrote no map");
        Ok(())
    });
    // It belongs to nobody any more.
    let _ = std::fs::remove_file(&map);
    let ((), profile) = recorded?;
    for function in ["Deadlock.firstThenSecond", "Deadlock.secondThenFirst"] {
        let delay = profile.labelled("delay", function, ("wait", "futex"))?;
        ensure!(delay >= 1_000_000_000, "{function}: {delay} ns\n{}", profile.top("delay"));
    }
    Ok(())
}

/// Of four threads that compute three wait, always: for the interpreter's lock.
#[test]
fn an_interpreters_own_lock() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::python("gil.py")?, None)?;
    program.ask("compute 0.2", "computed")?;
    let (_, profile) = recorded(&mut program, |program| program.ask("compute 3", "computed"))?;
    // Python's own loop is below the lock's functions, which have no names where it is stripped.
    let delay = profile.labelled("delay", "_PyEval_EvalFrameDefault", ("wait", "futex"))?;
    ensure!(
        (5_000_000_000..12_000_000_000).contains(&delay),
        "{delay} ns of three times three seconds\n{}",
        profile.top("delay")
    );
    Ok(())
}
