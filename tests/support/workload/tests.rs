//! The workloads do what the tests rely on.

use std::fs;

use super::*;
use crate::program::Program;
use crate::transcript::eventually;

/// CPU time of a process so far, in clock ticks.
fn ticks(program: &Program) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.pid()))?;
    let (_, after) = stat.rsplit_once(") ").context("a stat without a name")?;
    // utime and stime: fields 14 and 15, where the state behind the name is field 3.
    let fields = after.split(' ').skip(11).take(2);
    Ok(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// What the live tests watch is there before they begin: `cargo xtask vm` calls this on the host,
/// because compilers are slow on an emulated CPU.
#[test]
fn every_workload_builds() -> anyhow::Result<()> {
    let plain = [
        "allocations",
        "churn",
        "hog",
        "leak",
        "memory",
        "resident",
        "shares",
        "spin",
        "stacks",
        "threads",
    ];
    for name in plain {
        assert!(Workload::c(name)?.program.is_file());
    }
    assert!(Workload::bare_c("allocator")?.program.is_file());
    assert!(Workload::cpp("allocations")?.program.is_file());
    assert!(Workload::rust_spin()?.program.is_file());
    assert!(Workload::bare_c("waits")?.program.is_file());
    assert!(Workload::go_spin()?.program.is_file());
    assert!(Workload::cpp("deadlock")?.program.is_file());
    assert!(Workload::rust("held")?.program.is_file());
    assert!(Workload::go_cases()?.program.is_file());
    Workload::python_spin()?;
    Ok(())
}

#[test]
fn each_language_spins_when_told_and_only_then() -> anyhow::Result<()> {
    let _machine = crate::machine::alone();
    let spinners = [
        Workload::c("spin")?,
        Workload::rust_spin()?,
        Workload::go_spin()?,
        Workload::python_spin()?,
    ];
    for workload in spinners {
        let mut program = Program::start(&workload, None)?;
        // Its own pace on a busy machine is unknown; that it goes on without end is not.
        let before = ticks(&program)?;
        program.ask("spin", "spinning")?;
        let spent = || ticks(&program).ok().filter(|&now| now > before + 30);
        eventually("0.3 s of CPU time", spent).with_context(|| format!("{workload:?}"))?;
        program.ask("rest", "resting")?;
    }
    Ok(())
}

#[test]
fn the_shares_are_seventy_twenty_ten() -> anyhow::Result<()> {
    let _machine = crate::machine::alone();
    let mut program = Program::start(&Workload::c("shares")?, None)?;
    // A hundred times the longest slice.
    eventually("5 s of CPU time", || ticks(&program).ok().filter(|&now| now > 500))?;
    let line = program.ask("report", "shares ")?;
    let shares = line.split(' ').skip(1).filter_map(|part| part.split_once('='));
    let percents: Vec<f64> = shares.filter_map(|(_, percent)| percent.parse().ok()).collect();
    assert_eq!(percents.len(), 3, "{line}");
    for (got, wanted) in percents.iter().zip([70.0, 20.0, 10.0]) {
        assert!((got - wanted).abs() < 1.0, "{line}");
    }
    Ok(())
}

#[test]
fn a_thousand_threads_live_until_they_are_released() -> anyhow::Result<()> {
    let mut program = Program::start(&Workload::c("threads")?, None)?;
    let tasks = format!("/proc/{}/task", program.pid());
    let count = || fs::read_dir(&tasks).map(|entries| entries.count()).unwrap_or(0);
    program.ask("create 1000", "created 1000")?;
    assert_eq!(count(), 1001);
    program.ask("release", "released")?;
    eventually("one thread is left", || (count() == 1).then_some(()))
}

#[test]
fn the_memory_script_is_the_same_every_time() -> anyhow::Result<()> {
    let mut program = Program::start(&Workload::c("memory")?, None)?;
    let first = program.ask("script", "asked ")?;
    assert!(first.contains("failed=7 surprises=0"), "{first}");
    assert_eq!(program.ask("script", "asked ")?, first);
    assert!(program.ask("touch 8", "asked ")?.contains("mmap_bytes=8388608"));
    Ok(())
}

#[test]
fn a_hog_takes_what_it_is_told_to() -> anyhow::Result<()> {
    let mut program = Program::start(&Workload::c("hog")?, None)?;
    program.ask("hold 3", "holding")?;
    program.ask("eat 4 2", "eating")?;
    program.hear("full")?;
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid()))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    assert!((7 << 10..8 << 10).contains(&kib), "{line}");
    Ok(())
}

#[test]
fn churn_ends_every_process_it_starts() -> anyhow::Result<()> {
    let mut program = Program::start(&Workload::c("churn")?, None)?;
    program.ask("churn 20 1", "churned 20")?;
    Ok(())
}
