//! Threads are counted exactly, under the function that creates them.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

const CREATED: &str = "holmes_cgroup_threads_created_total";

#[test]
fn a_thousand_threads_from_one_function() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("threads")?, Some(&cgroup))?;
    let rule = "threads=min:100,diff:25,abs:500,max:0,cooldown:1m";
    let recorder = Setup::only_rule(rule).cgroup(&cgroup).start()?;
    recorder.wait_for_warm_up();
    program.ask("create 1000", "created 1000")?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-threads-"), "the folder is called {}", incident.name());
    ensure!(incident.validate()?.contains("threads"), "files: {:?}", incident.files()?);
    let profile = incident.profile("threads")?;
    for kind in ["created", "alive"] {
        let count = profile.cumulative(kind, "create_workers")?;
        ensure!(count == 1000, "{kind}: {count} of 1000\n{}", profile.top(kind));
        let total = profile.total(kind)?;
        ensure!(total == 1000, "{kind}: {total} in all of 1000\n{}", profile.top(kind));
    }
    let name = cgroup.name();
    let count = recorder.metrics()?.need(CREATED, &[("cgroup", &name)])?;
    ensure!(count == 1000.0, "{CREATED} is {count}");
    // Threads that end are no longer alive, and were created all the same.
    program.ask("release", "released")?;
    recorder.trigger()?;
    let profile = recorder.wait_incident(2)?.profile("threads")?;
    let alive = profile.cumulative("alive", "create_workers")?;
    ensure!(alive == 0, "{alive} threads are said to be alive");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
