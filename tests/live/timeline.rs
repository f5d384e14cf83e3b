//! What each thread did and when, in the formats of trace viewers, beside what the program says of itself.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::timeline_view::{Slice, ThreadView, TimelineView};
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

use crate::waits::{SLACK_NS, TOLERANCE, Waited, recorded_to, waited};

/// Of a thread's time that much at least is known, ran + waited: all but the moment before its first wait.
const KNOWN: f64 = 0.95;

/// Whether so many nanoseconds are what the program measured.
fn is_near(found: u64, truth: &Waited) -> bool {
    let truth = truth.nanoseconds as f64;
    (found as f64 - truth).abs() <= truth * TOLERANCE + SLACK_NS
}

fn sum(slices: &[&Slice]) -> u64 {
    slices.iter().map(|slice| slice.nanos()).sum()
}

#[test]
fn sleeps_a_lock_and_a_shared_cpu_in_both_formats() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::bare_c("waits")?, None)?;
    // The tables come with the first stacks.
    program.ask("often 100", "waited ")?;
    for file in ["out.perfetto-trace", "out.json", "out.perfetto-trace.gz", "out.json.gz"] {
        let act = |program: &mut Program| waited(&program.ask("script 2000", "waited ")?);
        let (truth, view) = recorded_to(&mut program, &[], file, TimelineView::read, act)?;
        let [sleeps, locks, reads, shares] = &truth[..] else {
            anyhow::bail!("{file}: {} functions", truth.len())
        };

        let slept = view.waits("sleep_shortly", "sleep");
        // Some are interrupted on their way: they come twice, or were over before they began.
        let few = sleeps.times / 10;
        let count = sleeps.times - few..=sleeps.times + few;
        ensure!(count.contains(&(slept.len() as i64)), "{file}: {} sleeps", slept.len());
        ensure!(slept.windows(2).all(|pair| pair[0].to < pair[1].from), "{file}: not in order");
        ensure!(is_near(sum(&slept), sleeps), "{file}: {} ns asleep", sum(&slept));

        let [lock] = view.waits("wait_for_lock", "futex")[..] else {
            anyhow::bail!("{file}: not one wait for the lock: {view:?}")
        };
        ensure!(is_near(lock.nanos(), locks), "{file}: {lock:?}");
        ensure!(lock.name == "futex in wait_for_lock" && lock.detail("lock").starts_with("0x"));
        ensure!(lock.detail("stack").contains("wait_for_lock; locker; start_thread"), "{lock:?}");
        let read = view.waits("wait_for_pipe", "io");
        ensure!(is_near(sum(&read), reads), "{file}: {} ns in the pipe", sum(&read));

        // Each thread's track is whole, and says what it did.
        let pid = u64::from(program.pid());
        ensure!(view.threads.len() == 7, "{file}: {} threads", view.threads.len());
        ensure!(view.threads.keys().all(|(process, _)| *process == pid), "{file}: {view:?}");
        for (key, thread) in &view.threads {
            let names = [&thread.name, &thread.process];
            ensure!(names.iter().all(|name| name.starts_with("waits")), "{file}: {names:?}");
            let of_time =
                is_whole(thread).with_context(|| format!("{file}: the thread {key:?}"))?;
            // How often those two are interrupted is not theirs to say: waits may be left out.
            let is_known = shares_a_cpu(thread) || of_time >= KNOWN;
            ensure!(is_known, "{file}: of the thread {key:?} {of_time} is known: {thread:?}");
        }
        // Two threads had one CPU: one waits while the other runs.
        let sharers: Vec<&ThreadView> =
            view.threads.values().filter(|thread| shares_a_cpu(thread)).collect();
        ensure!(sharers.len() == 2, "{file}: {} threads share a CPU", sharers.len());
        ensure!(sharers.iter().any(|thread| !thread.samples.is_empty()), "{file}: no sample");
        let all = |category| sharers.iter().map(|thread| thread.nanos(category)).sum::<u64>();
        let (queued, unknown) = (all("wait"), all("unknown"));
        let truth = shares.nanoseconds.unsigned_abs();
        let is_true = is_near(queued.max(truth.min(queued + unknown)), shares);
        ensure!(is_true, "{file}: {queued} ns in the run queue and {unknown} unknown, of {truth}");
    }
    Ok(())
}

fn shares_a_cpu(thread: &ThreadView) -> bool {
    let preempted = |slice: &Slice| slice.detail("cause") == "run_queue";
    let mut slices = thread.slices.iter().filter(|slice| preempted(slice));
    slices.any(|slice| slice.detail("stack").contains("share_a_cpu"))
}

/// A thread's slices have no holes. Returns the share of its time that it ran or waited, or of which the
/// record was lost: that is told.
fn is_whole(thread: &ThreadView) -> anyhow::Result<f64> {
    let (first, last) = thread.slices.first().zip(thread.slices.last()).context("no slice")?;
    let whole = thread.slices.windows(2).all(|pair| pair[0].to == pair[1].from);
    ensure!(whole, "there is a hole");
    let is_lost = |slice: &&Slice| slice.detail("why").contains("lost");
    let lost: u64 = thread.slices.iter().filter(is_lost).map(Slice::nanos).sum();
    let all = last.to - first.from;
    let known = thread.nanos("run") + thread.nanos("wait") + lost;
    Ok(known as f64 / all.max(1) as f64)
}

/// Of a hundred thousand waits in a second one of 128 is drawn. It says so, and what is between them is
/// taken neither for running nor for waiting.
#[test]
fn what_is_not_drawn_is_unknown() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::bare_c("waits")?, None)?;
    program.ask("often 100", "waited ")?;
    let act = |program: &mut Program| {
        let answer = program.ask("often 3000", "waited ")?;
        let switches = answer.split_once(" switches=").context("the number of switches")?.1;
        Ok(switches.parse::<u64>()?)
    };
    let file = "out.perfetto-trace";
    let (switches, view) = recorded_to(&mut program, &[], file, TimelineView::read, act)?;
    let slices = || view.threads.values().flat_map(|thread| &thread.slices);
    let stands_for = |slice: &Slice| match slice.detail("stands_for") {
        "" => u64::from(slice.category == "wait"),
        many => many.parse().unwrap_or(0),
    };
    let drawn: u64 = slices().map(stands_for).sum();
    let (wanted, allowed) = (switches as f64, switches as f64 * TOLERANCE + 200.0);
    ensure!((drawn as f64 - wanted).abs() <= allowed, "{drawn} waits, {switches} in truth");
    ensure!(slices().any(|slice| stands_for(slice) == 128), "none stands for others");
    let (mut unknown, mut all) = (0, 0);
    for thread in view.threads.values() {
        unknown += thread.nanos("unknown");
        all += thread.slices.iter().map(Slice::nanos).sum::<u64>();
    }
    ensure!(unknown * 2 > all, "{unknown} ns of {all} are unknown");
    ensure!(slices().any(|slice| slice.detail("why").contains("left out")), "nothing left out");
    Ok(())
}

/// What goes on still is drawn up to the end, with who holds the lock; and a replay makes the same file.
#[test]
fn an_incident_has_one_and_a_replay_the_same() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::bare_c("waits")?, Some(&cgroup))?;
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("input");
    let setup = Setup::no_rules().cgroup(&cgroup);
    let recorder = setup.args(["--record-input".into(), input.as_os_str().to_owned()]).start()?;
    program.ask("often 100", "waited ")?;
    program.ask("hang", "hangs at ")?;
    std::thread::sleep(Duration::from_secs(1));
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    incident.validate()?;
    let view = incident.timeline()?;
    let [lock] = view.waits("wait_for_lock", "futex")[..] else {
        anyhow::bail!("not one wait for the lock: {view:?}")
    };
    ensure!(lock.detail("goes_on") == "true", "{lock:?}");
    ensure!(lock.detail("holder") == program.pid().to_string(), "{lock:?}");
    let ends = view.threads.values().filter_map(|thread| Some(thread.slices.last()?.to));
    ensure!(ends.max() == Some(lock.to), "it is not drawn up to the end: {lock:?}");
    let kinds = incident.document()["files"].as_array().context("files")?.iter();
    ensure!(kinds.filter(|file| file["kind"] == "timeline").count() == 1, "no such file is told");
    let bytes = std::fs::read(incident.timeline_file())?;
    recorder.stop()?.account.expect_balanced()?;

    let again = tempfile::tempdir()?;
    let mut command = Command::new(recorder_binary()?);
    command.arg("replay").arg(&input).arg("--dump-dir").arg(again.path());
    Program::spawn(command)?.finish(HANG_GUARD)?.expect_code(0)?;
    let file = incident.timeline_file();
    let name = file.file_name().context("a file's name")?;
    let replayed = again.path().join(incident.name()).join(name);
    ensure!(std::fs::read(replayed)? == bytes, "a replay gives another timeline");
    Ok(())
}
