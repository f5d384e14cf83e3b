//! Processes that the kernel kills because memory ran out: each leaves who took it, and what the
//! kernel said.

mod counted;
mod neighbours;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup};
use holmes_tests::transcript::{HANG_GUARD, eventually};
use holmes_tests::workload::Workload;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A limit that some hundred samples fit in.
const LIMIT: u64 = 256 * MIB;

/// More than any limit here.
const EAT: &str = "eat 512";

/// A victim as `incident.json` shows it.
#[derive(Clone, Debug)]
struct Victim {
    pid: u64,
    comm: String,
    /// Bytes that the memory profile attributes to it.
    attributed: u64,
    /// What the kernel's log said: anonymous bytes, usage and limit of the cgroup.
    anonymous: Option<u64>,
    usage: Option<u64>,
    limit: Option<u64>,
}

fn victims(incident: &IncidentFolder) -> Vec<Victim> {
    let victims = incident.document().pointer("/victims").and_then(Value::as_array);
    let victims = victims.map(Vec::as_slice).unwrap_or_default();
    let number = |it: &Value, at: &str| it.pointer(at).and_then(Value::as_u64);
    let victim = |it: &Value| Victim {
        pid: number(it, "/pid").unwrap_or(0),
        comm: it.pointer("/comm").and_then(Value::as_str).unwrap_or_default().to_owned(),
        attributed: number(it, "/attributed_bytes").unwrap_or(0),
        anonymous: number(it, "/kernel/anon_bytes"),
        usage: number(it, "/kernel/usage_bytes"),
        limit: number(it, "/kernel/limit_bytes"),
    };
    victims.iter().map(victim).collect()
}

/// Whether the kernel's log can be read: then every victim's last words must be there.
fn log_is_readable() -> bool {
    File::open("/dev/kmsg").is_ok()
}

/// `part` is within so many percent of `whole`.
fn expect_about(what: &str, part: u64, whole: u64, percent: u64) -> anyhow::Result<()> {
    let wrong = 100 * part.abs_diff(whole) > percent * whole;
    ensure!(!wrong, "{what}: {part} of {whole} bytes, not within {percent} %");
    Ok(())
}

/// The profile names who took the memory that the kernel found on the victim, as far as samples can
/// tell: one for 512 KiB, drawn from all that touch memory at the same time.
fn expect_memory_explained(victim: &Victim, percent: u64) -> anyhow::Result<()> {
    match victim.anonymous {
        Some(anonymous) => expect_about("attributed", victim.attributed, anonymous, percent),
        None if log_is_readable() => anyhow::bail!("the kernel's words are missing: {victim:?}"),
        None => Ok(()),
    }
}

fn expect_oom_of(incident: &IncidentFolder, cgroup: &TestCgroup) -> anyhow::Result<()> {
    let document = incident.document();
    ensure!(incident.name().contains("-oom-"), "the folder is called {}", incident.name());
    let reason = document.pointer("/reason/kind").and_then(Value::as_str);
    ensure!(reason == Some("oom"), "the reason is {reason:?}");
    let target = document.pointer("/target/path").and_then(Value::as_str);
    ensure!(target == Some(cgroup.name().as_str()), "the target is {target:?}");
    let stems = incident.validate()?;
    ensure!(stems.contains("memory") && stems.contains("memory.base"), "profiles: {stems:?}");
    Ok(())
}

/// After ten kills within five seconds the kernel does not say more than who was killed, until that
/// time is over.
fn the_kernel_talks_again() {
    std::thread::sleep(Duration::from_secs(6));
}

/// Waits until the kernel has killed a process.
fn killed(program: &mut Program) -> anyhow::Result<()> {
    use std::os::unix::process::ExitStatusExt;
    let status = program.wait(HANG_GUARD)?;
    ensure!(status.signal() == Some(libc::SIGKILL), "it ended with {status:?}\n{}", program.stdout);
    Ok(())
}

/// All victims of all incidents: by pid, in how many places each is named.
fn named(recorder: &Recorder) -> anyhow::Result<BTreeMap<u64, usize>> {
    let mut places = BTreeMap::new();
    for incident in IncidentFolder::all(recorder.dump_dir())? {
        for victim in victims(&incident) {
            *places.entry(victim.pid).or_insert(0) += 1;
        }
    }
    Ok(places)
}

/// Threads of one victim run out of memory at the same time, and some say so while it dies.
#[test]
fn a_victim_with_threads_is_named_once() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(64 * MIB)?;
    let mut program = Program::start(&Workload::c("hog")?, Some(&cgroup))?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    program.ask(&format!("{EAT} 12"), "eating")?;
    killed(&mut program)?;
    let victims = victims(&recorder.wait_incident(1)?);
    ensure!(victims.len() == 1 && victims[0].pid == u64::from(program.pid()), "{victims:?}");
    expect_memory_explained(&victims[0], 25)?;
    let places = named(&recorder)?;
    ensure!(places.values().all(|&places| places == 1), "{places:?}");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn those_who_are_killed_as_a_group_share_an_incident() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(64 * MIB)?;
    if !cgroup.kill_memory_as_a_group()? {
        return machine::not_run("cgroup v1 has no memory.oom.group");
    }
    let hog = Workload::c("hog")?;
    let mut one = Program::start(&hog, Some(&cgroup))?;
    let mut other = Program::start(&hog, Some(&cgroup))?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    the_kernel_talks_again();
    one.ask("hold 12", "holding")?;
    other.ask(EAT, "eating")?;
    killed(&mut one)?;
    killed(&mut other)?;
    let incident = recorder.wait_incident(1)?;
    expect_oom_of(&incident, &cgroup)?;
    let victims = victims(&incident);
    let mut pids: Vec<u64> = victims.iter().map(|victim| victim.pid).collect();
    pids.sort_unstable();
    let mut expect = [u64::from(one.pid()), u64::from(other.pid())];
    expect.sort_unstable();
    ensure!(pids == expect, "{victims:?} are not {expect:?}");
    let first = victims.iter().find(|victim| victim.pid == u64::from(other.pid()));
    let first = first.context("the one that ate")?;
    expect_memory_explained(first, 25)?;
    ensure!(first.limit.is_some() == log_is_readable(), "{first:?}");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

/// The only process of a container that lives two seconds, from a file system of its own that ends
/// with it, in a cgroup that is removed at once.
#[test]
fn a_container_that_is_gone_is_named() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let parent = TestCgroup::of_memory()?;
    parent.share_memory_control()?;
    let recorder = Setup::no_rules().cgroup(&parent).start()?;
    let container = parent.child("container")?;
    container.limit_memory(64 * MIB)?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none \"$1\" && cp \"$0\" \"$1/boxed\" && exec \"$1/boxed\"";
    command.args(["--mount", "sh", "-c", script]).arg(Workload::c("hog")?.program());
    command.arg(folder.path()).stdin(Stdio::piped());
    container.join_at_exec(&mut command)?;
    let mut program = Program::spawn(command)?;
    program.hear("ready")?;
    std::thread::sleep(Duration::from_secs(1));
    program.ask(EAT, "eating")?;
    killed(&mut program)?;
    drop(container);
    ensure!(!folder.path().join("boxed").exists(), "the file system is still there");
    let incident = recorder.wait_incident(1)?;
    expect_oom_of(&incident, &parent)?;
    let victims = victims(&incident);
    ensure!(victims.len() == 1 && victims[0].comm == "boxed", "{victims:?}");
    expect_memory_explained(&victims[0], 25)?;
    let profile = incident.profile("memory")?;
    let eaten = profile.percent("inuse_space", "eat_everything")?;
    ensure!(eaten > 90.0, "{eaten} %:\n{}", profile.top("inuse_space"));
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

/// Every pid is named in exactly one incident, each with its memory.
fn expect_each_named_once(recorder: &Recorder, pids: &[u64]) -> anyhow::Result<()> {
    let expect: BTreeMap<u64, usize> = pids.iter().map(|&pid| (pid, 1)).collect();
    eventually("every victim is named", || {
        let found = named(recorder).ok()?;
        expect.keys().all(|pid| found.contains_key(pid)).then_some(())
    })
    .with_context(|| format!("{:?} of {expect:?}", named(recorder)))?;
    let found = named(recorder)?;
    ensure!(found == expect, "{found:?} are not {expect:?}");
    let (mut attributed, mut anonymous) = (0, 0);
    for incident in IncidentFolder::all(recorder.dump_dir())? {
        incident.validate()?;
        for victim in victims(&incident) {
            // A few dozen samples each.
            expect_memory_explained(&victim, 67).with_context(|| format!("{victim:?}"))?;
            attributed += victim.attributed;
            anonymous += victim.anonymous.unwrap_or(victim.attributed);
        }
    }
    expect_about("attributed to all", attributed, anonymous, 20)
}

#[test]
fn ten_victims_at_once_in_cgroups_of_their_own() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let parent = TestCgroup::of_memory()?;
    parent.share_memory_control()?;
    let hog = Workload::c("hog")?;
    let mut cgroups = Vec::new();
    let mut programs = Vec::new();
    for number in 0..10 {
        let cgroup = parent.child(&format!("victim-{number}"))?;
        cgroup.limit_memory(24 * MIB)?;
        programs.push(Program::start(&hog, Some(&cgroup))?);
        cgroups.push(cgroup);
    }
    let recorder = Setup::no_rules().cgroup(&parent).start()?;
    programs.iter_mut().try_for_each(|program| program.tell(EAT))?;
    programs.iter_mut().try_for_each(killed)?;
    let pids: Vec<u64> = programs.iter().map(|program| program.pid().into()).collect();
    expect_each_named_once(&recorder, &pids)?;
    recorder.stop()?.account.expect_balanced()?;
    // The children go first.
    drop(cgroups);
    Ok(())
}

#[test]
fn ten_victims_one_after_the_other_in_one_cgroup() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(160 * MIB)?;
    let hog = Workload::c("hog")?;
    let programs = (0..10).map(|_| Program::start(&hog, Some(&cgroup)));
    let mut programs = programs.collect::<anyhow::Result<Vec<_>>>()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    programs.iter_mut().try_for_each(|program| program.tell(EAT))?;
    programs.iter_mut().try_for_each(killed)?;
    let pids: Vec<u64> = programs.iter().map(|program| program.pid().into()).collect();
    expect_each_named_once(&recorder, &pids)?;
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn who_is_not_watched_makes_no_incident() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let hog = Workload::c("hog")?;
    let (watched, other) = (TestCgroup::of_memory()?, TestCgroup::of_memory()?);
    watched.limit_memory(32 * MIB)?;
    other.limit_memory(32 * MIB)?;
    let mut inside = Program::start(&hog, Some(&watched))?;
    let mut outside = Program::start(&hog, Some(&other))?;
    let recorder = Setup::no_rules().cgroup(&watched).start()?;
    outside.ask(EAT, "eating")?;
    killed(&mut outside)?;
    // Its incident would have been the first.
    inside.ask(EAT, "eating")?;
    killed(&mut inside)?;
    expect_oom_of(&recorder.wait_incident(1)?, &watched)?;
    expect_each_named_once(&recorder, &[inside.pid().into()])?;
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn of_processes_only_those_that_are_watched_count() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let hog = Workload::c("hog")?;
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(32 * MIB)?;
    let mut watched = Program::start(&hog, Some(&cgroup))?;
    let mut other = Program::start(&hog, Some(&cgroup))?;
    let pid = watched.pid();
    let recorder = Setup::no_rules().args(["--pid".to_owned(), pid.to_string()]).start()?;
    other.ask(EAT, "eating")?;
    killed(&mut other)?;
    watched.ask(EAT, "eating")?;
    killed(&mut watched)?;
    let incident = recorder.wait_incident(1)?;
    let target = incident.document().pointer("/target/pid").and_then(Value::as_u64);
    ensure!(target == Some(pid.into()), "the target is {target:?}");
    expect_each_named_once(&recorder, &[pid.into()])?;
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

/// Seconds of its day of a moment like `2026-11-21T04:48:39.467Z`.
fn of_day(incident: &IncidentFolder, moment: &str) -> anyhow::Result<f64> {
    let text = incident.document().pointer(moment).and_then(Value::as_str);
    let text = text.with_context(|| format!("no {moment}"))?;
    let (_, time) = text.trim_end_matches('Z').split_once('T').context("no time of day")?;
    time.split(':').try_fold(0.0, |sum, part| Ok(60.0 * sum + part.parse::<f64>()?))
}

/// Seconds between the kill and the moment at which the folder had its name.
#[allow(clippy::cast_precision_loss)] // milliseconds of a day
fn delay(incident: &IncidentFolder) -> anyhow::Result<f64> {
    const DAY: i64 = 86_400;
    let metadata = incident.path().metadata()?;
    let named = (metadata.ctime() % DAY) as f64 + metadata.ctime_nsec() as f64 / 1e9;
    Ok((named - of_day(incident, "/window/trigger")?).rem_euclid(DAY as f64))
}

/// No figure is asserted, as everywhere: it is shown. That nothing is waited for is in the document:
/// the incident ends soon after its kill, however long the after-window is.
#[test]
fn an_incident_does_not_wait_for_its_after_window() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::of_memory()?;
    cgroup.limit_memory(96 * MIB)?;
    let hog = Workload::c("hog")?;
    let recorder = Setup::no_rules().cgroup(&cgroup).replace("--after", "60s").start()?;
    let mut delays = Vec::new();
    for number in 1..=10 {
        let mut program = Program::start(&hog, Some(&cgroup))?;
        program.ask(EAT, "eating")?;
        killed(&mut program)?;
        let incident = recorder.wait_incident(number)?;
        delays.push(delay(&incident)?);
        let [trigger, end] = ["/window/trigger", "/window/end"].map(|at| of_day(&incident, at));
        let after = (end? - trigger?).rem_euclid(86_400.0);
        ensure!(after < 1.0, "it ends {after} s after the kill");
    }
    delays.sort_by(f64::total_cmp);
    println!(
        "from the kill to the folder: median {:.2} s, {:.2} to {:.2} s",
        delays[5], delays[0], delays[9]
    );
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
