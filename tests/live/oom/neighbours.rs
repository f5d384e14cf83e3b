//! Who else had memory where it ran out: in the target, or above it.

use super::*;

/// A program as a list of processes in `incident.json` shows it, if it is in there.
fn process_among<'a>(
    incident: &'a IncidentFolder,
    list: &str,
    program: &Program,
) -> anyhow::Result<Option<&'a Value>> {
    let list = incident.document().pointer(list).and_then(Value::as_array);
    let mut processes = list.context("no list of processes")?.iter();
    Ok(processes.find(|it| it["pid"].as_u64() == Some(program.pid().into())))
}

#[test]
fn who_took_the_memory_is_named_with_the_neighbours() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(LIMIT)?;
    let hog = Workload::c("hog")?;
    let mut small = Program::start(&hog, Some(&cgroup))?;
    let mut large = Program::start(&hog, Some(&cgroup))?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    the_kernel_talks_again();
    small.ask("hold 16", "holding")?;
    large.ask("hold 8", "holding")?;
    large.ask(EAT, "eating")?;
    killed(&mut large)?;
    let incident = recorder.wait_incident(1)?;
    expect_oom_of(&incident, &cgroup)?;
    let victims = victims(&incident);
    let [victim] = victims.as_slice() else { anyhow::bail!("victims: {victims:?}") };
    ensure!(victim.pid == u64::from(large.pid()) && victim.comm == "hog-c", "{victim:?}");
    expect_memory_explained(victim, 10)?;
    if log_is_readable() {
        ensure!(victim.limit == Some(LIMIT), "{victim:?}");
        expect_about("usage", victim.usage.unwrap_or(0), LIMIT, 10)?;
    }
    let profile = incident.profile("memory")?;
    let taken = u64::try_from(profile.cumulative("inuse_space", "eat_everything")?)?;
    let whole = victim.anonymous.unwrap_or(LIMIT - 16 * MIB);
    expect_about("eaten", taken + 8 * MIB, whole, 10)
        .with_context(|| profile.top("inuse_space"))?;
    let held = profile.cumulative("inuse_space", "hold_some")?;
    // What the two hold is a few dozen samples.
    ensure!((8..40).contains(&(held / MIB as i64)), "held: {held}");
    let neighbour = process_among(&incident, "/memory/largest", &small)?;
    let neighbour = neighbour.context("the neighbour is not among the largest")?;
    let resident = neighbour["resident_bytes"].as_u64().unwrap_or(0);
    ensure!(neighbour["comm"] == "hog-c" && resident >= 16 * MIB, "{neighbour:?}");
    drop(small);
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

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
        let found = process_among(&incident, "/memory/around/largest", &neighbour)?;
        let resident = found.and_then(|it| it["resident_bytes"].as_u64()).unwrap_or(0);
        ensure!(resident >= 24 * MIB, "{around:#}");
    }
    // The target's own are its own.
    let foreign = process_among(&incident, "/memory/largest", &neighbour)?;
    ensure!(foreign.is_none(), "{foreign:?}");
    drop((victim, neighbour));
    recorder.stop()?.account.expect_balanced()?;
    drop((own, other));
    Ok(())
}
