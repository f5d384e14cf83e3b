//! Where memory ran out above the target: who else had some there.

use super::*;

#[test]
fn who_shared_the_limit_is_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let parent = TestCgroup::of_memory()?;
    parent.share_memory_control()?;
    parent.limit_memory(96 * MIB)?;
    let hog = Workload::c("hog")?;
    let (own, other) = (parent.child("own")?, parent.child("other")?);
    let mut neighbour = Program::start(&hog, Some(&other))?;
    let mut victim = Program::start(&hog, Some(&own))?;
    let recorder = Setup::no_rules().cgroup(&own).start()?;
    the_kernel_talks_again();
    neighbour.ask("hold 24", "holding")?;
    victim.ask(EAT, "eating")?;
    killed(&mut victim)?;
    let incident = recorder.wait_incident(1)?;
    expect_oom_of(&incident, &own)?;
    let around = incident.document().pointer("/memory/around");
    if log_is_readable() {
        let around = around.context("nothing about where memory ran out")?;
        ensure!(around["cgroup"] == parent.name(), "{around:#}");
        let largest = around["largest"].as_array().context("nobody was there")?;
        let found = largest.iter().find(|it| it["pid"].as_u64() == Some(neighbour.pid().into()));
        let resident = found.and_then(|it| it["resident_bytes"].as_u64()).unwrap_or(0);
        ensure!(resident >= 24 * MIB, "{around:#}");
    }
    // The target's own are its own.
    let own_pids = incident.document().pointer("/memory/largest").and_then(Value::as_array);
    let own_pids = own_pids.context("no processes")?;
    let foreign = own_pids.iter().any(|it| it["pid"].as_u64() == Some(neighbour.pid().into()));
    ensure!(!foreign, "{own_pids:?}");
    drop((victim, neighbour));
    recorder.stop()?.account.expect_balanced()?;
    drop((own, other));
    Ok(())
}
