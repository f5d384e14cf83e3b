//! Kills that no probe tells of: a cgroup v2 counts them, and the kernel's log says who it was.

use super::*;

#[test]
fn a_kill_that_is_only_counted_is_an_incident() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::of_memory()?;
    if !cgroup.path().join("memory.events").exists() {
        return machine::not_run("cgroup v1 counts kills where nobody can wait for them");
    }
    cgroup.limit_memory(64 * MIB)?;
    let mut program = Program::start(&Workload::c("hog")?, Some(&cgroup))?;
    let setup = Setup::no_rules().args(["--without", "oom"]);
    let recorder = setup.cgroup(&cgroup).start()?;
    recorder.wait_for_line("probes off: oom: it was left out")?;
    // Its files are waited for from the first reading on.
    recorder.wait_for_warm_up();
    the_kernel_talks_again();
    program.ask(EAT, "eating")?;
    killed(&mut program)?;
    let incident = recorder.wait_incident(1)?;
    expect_oom_of(&incident, &cgroup)?;
    let victims = victims(&incident);
    let pid = if log_is_readable() { u64::from(program.pid()) } else { 0 };
    ensure!(victims.len() == 1 && victims[0].pid == pid, "{victims:?}");
    let kills = incident.document().pointer("/memory/cgroup/events/oom_kill");
    ensure!(kills.and_then(Value::as_u64) == Some(1), "{:#}", incident.document());
    let profile = incident.profile("memory")?;
    let eaten = profile.percent("alloc_space", "eat_everything")?;
    ensure!(eaten > 90.0, "{eaten} %:\n{}", profile.top("alloc_space"));
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
