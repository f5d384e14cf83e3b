//! Where threads wait, for what and how long: as the program itself measures it.

mod earlier;
mod shapes;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::confine::Confinement;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

/// A program's own clock reads before it waits and after it runs again: it measures a little more.
pub(crate) const TOLERANCE: f64 = 0.05;

/// The same for many short waits together, in nanoseconds: an emulated CPU takes its time.
pub(crate) const SLACK_NS: f64 = 100e6;

/// What the workload says of one of its functions.
pub(crate) struct Waited {
    pub(crate) name: String,
    pub(crate) times: i64,
    pub(crate) nanoseconds: i64,
}

/// The answer `waited NAME=TIMES:NANOSECONDS ...`.
pub(crate) fn waited(line: &str) -> anyhow::Result<Vec<Waited>> {
    let parts = line.split(' ').skip(1).map(|part| {
        let (name, numbers) = part.split_once('=').context("name=numbers")?;
        let (times, nanoseconds) = numbers.split_once(':').context("times:nanoseconds")?;
        let (times, nanoseconds) = (times.parse()?, nanoseconds.parse()?);
        Ok(Waited { name: name.to_owned(), times, nanoseconds })
    });
    parts.collect()
}

/// Records what a program waits for while it does something.
pub(crate) fn recorded<R>(
    program: &mut Program,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
) -> anyhow::Result<(R, ProfileView)> {
    recorded_in(&Confinement::default(), program, act)
}

/// The same by a recorder in such a world.
fn recorded_in<R>(
    world: &Confinement,
    program: &mut Program,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
) -> anyhow::Result<(R, ProfileView)> {
    recorded_as(world, program, &["-e", "blocked"], "waits.pb.gz", ProfileView::read, act)
}

/// Records a program with these arguments into a file of this name while it does something.
pub(crate) fn recorded_to<R, View>(
    program: &mut Program,
    arguments: &[&str],
    name: &str,
    read: impl FnOnce(&Path) -> anyhow::Result<View>,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
) -> anyhow::Result<(R, View)> {
    recorded_as(&Confinement::default(), program, arguments, name, read, act)
}

/// The same by a recorder in such a world.
fn recorded_as<R, View>(
    world: &Confinement,
    program: &mut Program,
    arguments: &[&str],
    name: &str,
    read: impl FnOnce(&Path) -> anyhow::Result<View>,
    act: impl FnOnce(&mut Program) -> anyhow::Result<R>,
) -> anyhow::Result<(R, View)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(name);
    let output = file.to_str().context("a path that is not UTF-8")?;
    let pid = program.pid().to_string();
    let mut command = Command::new(recorder_binary()?);
    command.args(["record", "-p", &pid, "-d", "10m", "-o", output]).args(arguments);
    command.stdin(Stdio::null());
    world.apply(&mut command)?;
    let recorder = Program::spawn(command)?;
    recorder.hear_error("recording")?;
    let result = act(program)?;
    recorder.signal(libc::SIGINT)?;
    recorder.finish(HANG_GUARD)?.expect_code(0)?;
    Ok((result, read(&file)?))
}

#[test]
fn sleeps_locks_pipes_and_a_shared_cpu() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    waits_are_as_measured(&Confinement::default())
}

/// By a recorder in such a world.
pub(crate) fn waits_are_as_measured(world: &Confinement) -> anyhow::Result<()> {
    let mut program = Program::start(&Workload::bare_c("waits")?, None)?;
    // The tables come with the first stacks.
    program.ask("often 100", "waited ")?;
    let (truth, profile) = recorded_in(world, &mut program, |program| {
        waited(&program.ask("script 5000", "waited ")?)
    })?;
    let causes = ["sleep", "futex", "io", "run_queue"];
    ensure!(truth.len() == causes.len(), "{} functions", truth.len());
    for (Waited { name, times, nanoseconds }, cause) in truth.iter().zip(causes) {
        let found = profile.labelled("delay", name, ("wait", cause))? as f64;
        let (wanted, allowed) = (*nanoseconds as f64, *nanoseconds as f64 * TOLERANCE + SLACK_NS);
        ensure!(
            (found - wanted).abs() <= allowed,
            "{name}: {found} ns in {cause}, {wanted} in truth\n{}",
            profile.top("delay")
        );
        if cause != "run_queue" {
            let blockings = profile.labelled("blockings", name, ("wait", cause))?;
            // A thread may be interrupted on its way, and waits once more.
            ensure!((*times..=times + times / 10 + 1).contains(&blockings), "{name}: {blockings}");
        }
    }
    // How the kernel switches is left out: a wait is where the thread waits.
    let switching = profile.cumulative("delay", "__schedule")?;
    ensure!(switching == 0, "{switching} ns in the scheduler\n{}", profile.top("delay"));
    Ok(())
}

#[test]
fn who_hangs_is_named_with_the_lock() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::bare_c("waits")?, None)?;
    program.ask("often 100", "waited ")?;
    let (lock, profile) = recorded(&mut program, |program| {
        let answer = program.ask("hang", "hangs at ")?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(answer.trim_start_matches("hangs at ").to_owned())
    })?;
    let delay = profile.labelled("delay", "wait_for_lock", ("lock", &lock))?;
    // It has not ended: up to now it has taken so long.
    ensure!((2_000_000_000..10_000_000_000).contains(&delay), "{delay} ns for the lock {lock}");
    ensure!(profile.labelled("blockings", "wait_for_lock", ("lock", &lock))? == 1);
    // The first thread has it.
    let holder = program.pid().to_string();
    let held = profile.labelled("delay", "wait_for_lock", ("holder", &holder))?;
    ensure!(held == delay, "{held} ns of {delay} because of {holder}");
    Ok(())
}

/// Most are left out of so many, and those that are not stand for them.
#[test]
fn a_hundred_thousand_waits_a_second() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::bare_c("waits")?, None)?;
    program.ask("often 100", "waited ")?;
    let (switches, profile) = recorded(&mut program, |program| {
        let answer = program.ask("often 3000", "waited ")?;
        let switches = answer.split_once(" switches=").context("the number of switches")?.1;
        Ok(switches.parse::<i64>()?)
    })?;
    let found = profile.total("blockings")?;
    let (wanted, allowed) = (switches as f64, switches as f64 * TOLERANCE + 200.0);
    ensure!((found as f64 - wanted).abs() <= allowed, "{found} waits, {switches} in truth");
    // All of them are one of the two threads', each under its function.
    let mut both = profile.chain("blockings", &["main", "wait_for_echo"])?;
    both += profile.chain("blockings", &["start_thread", "echo"])?;
    ensure!(both as f64 >= 0.9 * found as f64, "{both} of {found}\n{}", profile.top("blockings"));
    Ok(())
}

/// Wherever a thread goes on, and whoever is done: processes that come and go fight for all CPUs.
#[test]
fn who_goes_on_is_seen_to_do_so() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let churn = Workload::bare_c("churn")?;
    let start = |_| Program::start(&churn, Some(&cgroup));
    let cpus = std::thread::available_parallelism()?.get();
    let mut programs = (0..2 * cpus).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    for program in &mut programs {
        program.tell("churn 100 10")?;
    }
    for program in &mut programs {
        program.hear("churned 100")?;
    }
    let (taken, unseen) = recorder.wait_for_metrics("the waits are counted", |metrics| {
        let taken = metrics.sum("holmes_records_reported_total", &[("stream", "waits")])?;
        let unseen = metrics.sum("holmes_drops_total", &[("cause", "wait_end_not_seen")])?;
        (taken >= 500.0 * cpus as f64).then_some((taken, unseen))
    })?;
    eprintln!("of {taken} waits {unseen} have no end");
    // The kernel of a virtual machine was seen that does not tell of switches away from some of its tasks.
    ensure!(unseen * 50.0 <= taken, "of {taken} waits {unseen} have no end");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn an_incident_of_threads_tells_what_they_wait_for() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::bare_c("threads")?, Some(&cgroup))?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    program.ask("create 10", "created")?;
    program.ask("release", "released")?;
    program.ask("create 100", "created")?;
    // What is lost has one name, which does not repeat the stream's.
    recorder.wait_for_metrics("the waits are counted", |metrics| {
        let taken = metrics.sum("holmes_records_taken_total", &[("stream", "waits")])?;
        let lost = [("stream", "waits"), ("cause", "ring_full")];
        metrics.sum("holmes_records_lost_total", &lost)?;
        let twice = [("stream", "waits"), ("cause", "waits_ring_full")];
        (taken >= 100.0 && metrics.sum("holmes_records_lost_total", &twice).is_none()).then_some(())
    })?;
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    let profile = incident.profile("blocked")?;
    let waiting = profile.labelled("delay", "worker", ("wait", "futex"))?;
    ensure!(waiting > 0, "no worker waits\n{}", profile.top("delay"));
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
