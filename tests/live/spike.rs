//! A spike on command: what several tests need to bring about.

use holmes_tests::cgroup::TestCgroup;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup};
use holmes_tests::workload::Workload;

/// A CPU rule that fires when one thread spins, on a machine of any size: above 45 % of one CPU.
/// The workloads' quiet work takes about 8 % of one, on an emulated CPU now and then 40 %.
pub(crate) fn cpu_rule() -> String {
    let cpus = u32::try_from(machine::cpus()).unwrap_or(1);
    format!("cpu=min:{:.3},diff:25,abs:0,max:0,cooldown:1m", 45.0 / f64::from(cpus))
}

/// A recorder that watches one cgroup by [`cpu_rule`], and a program in it that has begun to spin.
pub(crate) struct Spike {
    pub(crate) recorder: Recorder,
    pub(crate) program: Program,
    pub(crate) incident: IncidentFolder,
}

/// Watches `watched`, runs `workload` in `home`, and has it spin once the rules know the quiet.
pub(crate) fn catch(
    workload: &Workload,
    watched: &TestCgroup,
    home: &TestCgroup,
    setup: Setup,
) -> anyhow::Result<Spike> {
    let mut program = Program::start(workload, Some(home))?;
    let recorder = setup.cgroup(watched).start()?;
    recorder.wait_for_warm_up();
    program.ask("spin", "spinning")?;
    let incident = recorder.wait_incident(1)?;
    Ok(Spike { recorder, program, incident })
}
