//! Samples taken are samples reported and samples lost, however little room there is.

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command;
use holmes_tests::machine;
use holmes_tests::metrics::Metrics;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Account, Recorder, Setup};
use holmes_tests::workload::Workload;

const TAKEN: &str = "holmes_samples_taken_total";
const REPORTED: &str = "holmes_samples_reported_total";
const LOST: &str = "holmes_samples_lost_total";
const DROPS: &str = "holmes_drops_total";

/// Programs whose stacks differ from sample to sample, one for each CPU and one more.
fn busy_programs(cgroup: &TestCgroup) -> anyhow::Result<Vec<Program>> {
    let workloads = [Workload::c("stacks")?, Workload::python_spin()?, Workload::go_spin()?];
    let mut programs = Vec::new();
    for workload in workloads.iter().cycle().take(machine::cpus() + 1) {
        let mut program = Program::start(workload, Some(cgroup))?;
        program.ask("spin", "spinning")?;
        programs.push(program);
    }
    Ok(programs)
}

/// Runs until a cause whose name contains `cause` has lost samples; then the account must balance,
/// in the metrics once nothing runs any more, and in the last line.
fn balanced_under(arguments: &[&str], cause: &str) -> anyhow::Result<()> {
    let cgroup = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).args(arguments.iter().copied()).start()?;
    let programs = busy_programs(&cgroup)?;
    wait_for_losses(&recorder, cause)?;
    drop(programs);
    recorder.wait_for_metrics("the counts settle and balance", |metrics| {
        let sum = |name| metrics.sum(name, &[]);
        (sum(TAKEN)? == sum(REPORTED)? + sum(LOST)?).then_some(())
    })?;
    // An incident says what it lacks, and is valid with what it has.
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    incident.validate()?;
    let samples = incident.document().get("samples").cloned().unwrap_or_default();
    let number = |key: &str| samples.get(key).and_then(serde_json::Value::as_u64);
    let lost = samples.get("lost").and_then(serde_json::Value::as_object);
    let lost: u64 = lost
        .into_iter()
        .flat_map(|causes| causes.values())
        .filter_map(|value| value.as_u64())
        .sum();
    ensure!(
        number("taken").is_some() && number("taken") == number("reported").map(|all| all + lost),
        "the incident's account is out of balance: {samples:#}"
    );
    let account = recorder.stop()?.account.expect_balanced()?;
    ensure!(account.lost > 0 && account.reported > 0, "{account:?}");
    Ok(())
}

fn wait_for_losses(recorder: &Recorder, cause: &str) -> anyhow::Result<()> {
    let causes = ["ring_full", "window_stacks_full", "window_evicted", "window_late"];
    let lost = |metrics: &Metrics| {
        // What the window evicts had been reported before: it is a drop, and a loss in the end.
        let sum = |metric, name: &&str| metrics.sum(metric, &[("cause", name)]).unwrap_or(0.0);
        let of = |name: &&str| sum(LOST, name) + sum(DROPS, name);
        causes.iter().filter(|name| name.contains(cause)).map(of).sum::<f64>()
    };
    recorder.wait_for_metrics(&format!("{LOST} of a cause with {cause}"), |metrics| {
        (lost(metrics) > 0.0).then_some(())
    })
}

#[test]
fn a_ring_buffer_of_one_page() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    balanced_under(&["--ring-bytes", "4096", "-F", "499"], "ring")
}

#[test]
fn a_window_of_sixteen_stacks() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    balanced_under(&["--window-stacks", "16", "-F", "499"], "window")
}

#[test]
fn a_window_of_one_mebibyte() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    balanced_under(&["--window-bytes", "1MiB", "-F", "999"], "window")
}

#[test]
fn a_recording_through_a_ring_buffer_of_one_page() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let _programs = busy_programs(&cgroup)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("out.pb.gz");
    let (path, output) = (cgroup.path().display().to_string(), file.display().to_string());
    let finished = command::run([
        "record",
        "--cgroup",
        &path,
        "-F",
        "499",
        "--ring-bytes",
        "4096",
        "-d",
        "2s",
        "-o",
        &output,
    ])?
    .expect_code(0)?;
    let lines: Vec<String> = finished.stderr.lines().map(str::to_owned).collect();
    let account = Account::find(&lines)?.expect_balanced()?;
    ensure!(account.lost > 0, "nothing was lost: {account:?}");
    let in_file = u64::try_from(ProfileView::read(&file)?.total("samples")?)?;
    ensure!(in_file == account.reported, "{in_file} samples in the file; {account:?}");
    // The person is told which flag gives more room.
    finished.expect_said(&["--ring-bytes"])
}

/// Processes that end before anyone can look at them are counted like any other.
#[test]
fn processes_that_come_and_go() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("churn")?, Some(&cgroup))?;
    let recorder = Setup::no_rules().cgroup(&cgroup).args(["-F", "199"]).start()?;
    program.ask("churn 200 10", "churned 200")?;
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    incident.validate()?;
    let profile = incident.profile("cpu")?;
    ensure!(profile.label_values("comm").contains("churn-c"), "{:?}", profile.label_values("comm"));
    let pids = profile.label_values("pid");
    ensure!(pids.len() > 20, "200 processes of 10 ms, samples of only {pids:?}");
    // Those that ran long enough to be looked at are named.
    let named = profile.cumulative("samples", "brief_life")?;
    ensure!(named > 0, "nothing is named:\n{}", profile.top("samples"));
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
