//! Which lock a goroutine waits for, from outside.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use holmes_tests::goroutines::from_outside;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::workload::Workload;

use super::{VERSIONS, in_each_version};

/// Compares what is told with the addresses that the program prints.
pub(super) fn compare(workload: &Workload) -> anyhow::Result<()> {
    let mut program = Program::start(workload, None)?;
    program.ask("many 10", "many")?;
    let answer = program.ask("lock 1000", "locked ")?;
    let locks: Vec<&str> = answer.split(' ').skip(1).collect();
    let &[first, second, reading, writing] = locks.as_slice() else {
        anyhow::bail!("there are four: {answer}");
    };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("goroutines.pb.gz");
    from_outside(program.pid(), &["-o", path.to_str().context("the path is text")?])?;
    let profile = ProfileView::read(&path)?;
    for (function, expected) in [
        ("main.locks", vec![(first, 1000), (second, 3)]),
        ("main.reads", vec![(reading, 2)]),
        ("main.writes", vec![(writing, 1)]),
        ("main.receives", vec![]),
    ] {
        let found = profile.by_label("goroutine", function, "lock")?;
        let expected: BTreeMap<String, i64> =
            expected.into_iter().map(|(lock, count)| (lock.to_owned(), count)).collect();
        ensure!(found == expected, "{function}: {found:?}, not {expected:?}");
    }
    // Where a WaitGroup has its semaphore differs by version: it is one that is none of the locks'.
    let group = profile.by_label("goroutine", "main.awaits", "lock")?;
    let is_one = group.iter().all(|(lock, &count)| count == 2 && !locks.contains(&lock.as_str()));
    ensure!(group.len() == 1 && is_one, "{group:?}");

    let text = from_outside(program.pid(), &[])?;
    ensure!(!text.contains("it is not known which lock"), "{text}");
    for (count, lock) in
        [("1000 goroutines", first), ("3 goroutines", second), ("1 goroutine", writing)]
    {
        let of_lock = |line: &&str| line.contains(&format!(", lock {lock}]: "));
        let heading = text.lines().find(of_lock).context("the lock has no group")?;
        ensure!(heading.starts_with(&format!("{count} [")), "{heading}");
    }
    Ok(())
}

#[test]
fn locks_have_the_addresses_that_the_program_knows() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for arguments in [&[][..], &["-ldflags=-s -w"], &["-buildmode=pie"], &["-gcflags=all=-N -l"]] {
        compare(&Workload::goroutines(None, arguments, false)?)
            .with_context(|| format!("built with {arguments:?}"))?;
    }
    compare(&Workload::goroutines(None, &["-buildmode=pie", "-ldflags=-s -w"], true)?)
        .context("stripped, with C, anywhere in memory")
}

#[test]
fn locks_in_all_versions() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    in_each_version(
        &VERSIONS,
        |version| Workload::goroutines(Some(version), &["-ldflags=-s -w"], false),
        compare,
    )
}

/// Goroutines that take one lock and then the other, all the time: whoever is in the function that takes the
/// one is never said to wait for the other.
#[test]
fn locks_that_are_taken_all_the_time() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::goroutines(None, &[], false)?, None)?;
    let answer = program.ask("swap 1000", "swapping ")?;
    let locks: Vec<&str> = answer.split(' ').skip(1).collect();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("goroutines.pb.gz");
    let mut told = 0;
    for _ in 0..20 {
        from_outside(program.pid(), &["-o", path.to_str().context("the path is text")?])?;
        let profile = ProfileView::read(&path)?;
        for (function, lock) in ["main.takesFirst", "main.takesSecond"].iter().zip(&locks) {
            let found = profile.by_label("goroutine", function, "lock")?;
            ensure!(found.keys().all(|found| found == lock), "{function}: {found:?}, not {lock}");
            told += found.values().sum::<i64>();
        }
    }
    ensure!(told > 0, "nobody is said to wait");
    Ok(())
}
