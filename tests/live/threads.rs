//! Threads are counted exactly, under the function that creates them.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// Threads that are created and ended before the spike.
const FIRST: i64 = 10;

const CREATED: &str = "holmes_cgroup_threads_created_total";

#[test]
fn a_thousand_threads_from_one_function() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::bare_c("threads")?, Some(&cgroup))?;
    let rule = "threads=min:100,diff:25,abs:500,max:0,cooldown:1m";
    // The rule fires when some of them are there; an emulated CPU takes seconds for the rest.
    let recorder = Setup::only_rule(rule).replace("--after", "5s").cgroup(&cgroup).start()?;
    // A process that has done nothing under the recorder is unknown to it: the tables that its
    // stacks are walked with come after the first event.
    program.ask(&format!("create {FIRST}"), "created")?;
    program.ask("release", "released")?;
    recorder.wait_for_warm_up();
    program.ask("create 1000", "created 1000")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-threads-"), "the folder is called {}", incident.name());
    ensure!(incident.validate()?.contains("threads"), "files: {:?}", incident.files()?);
    let profile = incident.profile("threads")?;
    for (kind, before) in [("created", FIRST), ("alive", 0)] {
        // libc stands between the function and the kernel.
        let count =
            profile.chain(kind, &["main", "create_workers", "create_worker", "pthread_create"])?;
        let all = 1000..=1000 + before;
        ensure!(all.contains(&count), "{kind}: {count} of 1000\n{}", profile.top(kind));
        let total = profile.total(kind)?;
        ensure!(total == 1000 + before, "{kind}: {total} in all\n{}", profile.top(kind));
    }
    let name = cgroup.name();
    let count = recorder.metrics()?.need(CREATED, &[("cgroup", &name)])?;
    ensure!(count == 1000.0 + FIRST as f64, "{CREATED} is {count}");
    // Threads that end are no longer alive, and were created all the same.
    program.ask("release", "released")?;
    recorder.trigger()?;
    let profile = recorder.wait_incident(2)?.profile("threads")?;
    let alive = profile.cumulative("alive", "create_workers")?;
    ensure!(alive == 0, "{alive} threads are said to be alive");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
