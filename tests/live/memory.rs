//! mmap, munmap, brk and mremap are counted to the byte, by cgroup and by stack.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::confine::Confinement;
use holmes_tests::machine;
use holmes_tests::metrics::Metrics;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::workload::Workload;

/// A metric, and what the workload calls the same thing.
const SAME: [(&str, &str); 5] = [
    ("holmes_cgroup_mmap_calls_total", "mmap_calls"),
    ("holmes_cgroup_mmap_bytes_total", "mmap_bytes"),
    ("holmes_cgroup_munmap_bytes_total", "munmap_bytes"),
    ("holmes_cgroup_brk_calls_total", "brk_calls"),
    ("holmes_cgroup_brk_bytes_total", "brk_grown"),
];

type Counts = BTreeMap<String, i64>;

/// The line `asked name=number ...`.
fn asked(line: &str) -> anyhow::Result<Counts> {
    let parts = line.split(' ').skip(1);
    let counts: Counts = parts
        .map(|part| {
            let (name, number) = part.split_once('=').context("name=number")?;
            Ok((name.to_owned(), number.parse()?))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(counts.get("surprises") == Some(&0), "the kernel answered otherwise: {line}");
    Ok(counts)
}

/// The metrics of [`SAME`]; 0 where the cgroup has no series yet.
#[allow(clippy::cast_possible_truncation)] // whole numbers far below 2^53
fn counted(metrics: &Metrics, cgroup: &str) -> Counts {
    let value = |metric| metrics.sum(metric, &[("cgroup", cgroup)]).unwrap_or(0.0) as i64;
    SAME.iter().map(|&(metric, name)| (name.to_owned(), value(metric))).collect()
}

/// Where the recorder says that it meets the calls.
const AT_FUNCTIONS: &str = "memory (at the ends of their functions)";
const AT_ALL_CALLS: &str = "memory (at the ends of all system calls";

/// Whether it meets them at the ends of their functions. Some virtual machines allow no program on any function
/// (EPERM); any other refusal is of ours.
fn is_at_functions(line: &str) -> anyhow::Result<bool> {
    let is_forbidden =
        line.contains(AT_ALL_CALLS) && line.contains("Operation not permitted (os error 1)");
    let is_there = line.contains(AT_FUNCTIONS);
    ensure!(is_there || is_forbidden, "a program on a function is refused: {line}");
    Ok(is_there)
}

/// Where the kernel says whether its functions are traced.
const TRACED: &str = "/proc/sys/kernel/ftrace_enabled";

#[test]
fn every_byte_asked_for_is_counted_and_what_failed_is_not() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    // Nothing is read there.
    every_byte_is_counted_by(Confinement::default().without_tracefs(), |line| {
        is_at_functions(line)?;
        Ok(())
    })
}

/// A kernel that does not trace its functions runs no program at their ends, though it lets one be attached.
#[test]
fn where_functions_are_not_traced_every_byte_counts_too() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    if !Path::new(TRACED).exists() {
        return machine::not_run("this kernel cannot trace its functions");
    }
    let off = tempfile::NamedTempFile::new()?;
    std::fs::write(off.path(), "0\n")?;
    let untraced = Confinement::default().file_over(Path::new(TRACED), off.path())?;
    every_byte_is_counted_by(untraced, |line| {
        ensure!(line.contains(AT_ALL_CALLS) && line.contains(TRACED), "{line}");
        Ok(())
    })
}

/// By a recorder in such a world.
pub(crate) fn every_byte_is_counted(world: Confinement) -> anyhow::Result<()> {
    every_byte_is_counted_by(world, |_| Ok(()))
}

/// The same, by one of which the line that tells of its probes passes a check.
fn every_byte_is_counted_by(
    world: Confinement,
    check: impl Fn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cgroup = TestCgroup::new()?;
    let name = cgroup.name();
    let mut program = Program::start(&Workload::c("memory")?, Some(&cgroup))?;
    let recorder = Setup::no_rules().cgroup(&cgroup).confined(world).start()?;
    check(&recorder.wait_for_line("probes on:")?)?;
    // The program is quiet here, so a page that is a moment old is as good as a new one.
    let before = counted(&recorder.metrics()?, &name);
    let asked = asked(&program.ask("script", "asked ")?)?;
    let since = |metrics: &Metrics| -> Counts {
        let now = counted(metrics, &name);
        now.into_iter().map(|(name, value)| (name.clone(), value - before[&name])).collect()
    };
    let wanted: Counts = SAME.iter().map(|&(_, name)| (name.to_owned(), asked[name])).collect();
    let last = std::cell::RefCell::new(Counts::new());
    recorder
        .wait_for_metrics("the counts of the cgroup reach what was asked for", |metrics| {
            last.replace(since(metrics));
            (*last.borrow() == wanted).then_some(())
        })
        .with_context(|| format!("wanted {wanted:?}, have {:?}", last.borrow()))?;

    // By stack: everything the script gained is under its name, to the byte.
    recorder.trigger()?;
    let incident = recorder.wait_incident(1)?;
    incident.validate()?;
    let profile = incident.profile("mmap")?;
    let mapped = asked["mmap_bytes"] + asked["brk_grown"] + asked["mremap_grown"];
    let found = profile.cumulative("mapped", "memory_script")?;
    ensure!(found == mapped, "{found} bytes of {mapped}:\n{}", profile.top("mapped"));
    let calls = profile.cumulative("calls", "memory_script")?;
    ensure!(calls == asked["gains"], "{calls} calls of {}", asked["gains"]);
    // And after all that, nothing more was counted.
    let end = since(&recorder.metrics()?);
    ensure!(end == wanted, "wanted {wanted:?}, have {end:?} in the end");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

/// What the calls of this kind cost whoever makes them: the least of some runs, in nanoseconds of CPU time.
fn other_calls(program: &mut Program) -> anyhow::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..9 {
        let line = program.ask("calls 20000", "took ")?;
        least = least.min(line.trim_start_matches("took ").parse()?);
    }
    Ok(least)
}

/// At the end of all system calls each of them takes half as long again; at the ends of functions, only those
/// that change memory.
#[test]
fn other_system_calls_cost_what_they_did() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("memory")?, None)?;
    let before = other_calls(&mut program)?;
    let pid = program.pid().to_string();
    let recorder = Setup::no_rules().args(["--pid", &pid]).start()?;
    let line = recorder.wait_for_line("probes on:")?;
    let with = other_calls(&mut program)?;
    recorder.stop()?.account.expect_balanced()?;
    let least = before.min(other_calls(&mut program)?);
    let ratio = with / least;
    eprintln!("a system call takes {ratio:.2} times as long beside the recorder: {line}");
    if !is_at_functions(&line)? {
        return machine::not_run("this kernel allows no programs on its functions");
    }
    ensure!(ratio < 1.25, "{ratio:.2} times as long");
    Ok(())
}

/// Without its types nobody knows what a process had before: what it asks for is known all the same, and
/// what cannot be told is counted.
#[test]
fn without_the_kernels_types_what_is_mapped_still_counts() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("memory")?, None)?;
    let bare = Confinement::default().small_disk(Path::new("/sys/kernel/btf"), 4096)?;
    let pid = program.pid().to_string();
    let recorder = Setup::no_rules().args(["--pid", &pid]).confined(bare).start()?;
    recorder.wait_for_line("cannot be read")?;
    let asked = asked(&program.ask("script", "asked ")?)?;
    #[allow(clippy::cast_possible_truncation)] // whole numbers far below 2^53
    let counted = |metrics: &Metrics, metric: &str| metrics.sum(metric, &[]).unwrap_or(0.0) as i64;
    recorder.wait_for_metrics("the counts reach what was asked for", |metrics| {
        let calls = counted(metrics, "holmes_cgroup_mmap_calls_total");
        let bytes = counted(metrics, "holmes_cgroup_mmap_bytes_total");
        let unknown = [("cause", "space_unknown")];
        let unknown = metrics.sum("holmes_drops_total", &unknown).unwrap_or(0.0);
        let reached = calls == asked["mmap_calls"] && bytes == asked["mmap_bytes"];
        (reached && unknown > 0.0).then_some(())
    })?;
    // Who waits cannot be told without them, and that is said.
    let waits = recorder.metrics()?.need("holmes_probe_up", &[("probe", "waits")])?;
    ensure!(waits == 0.0, "the probe of waits is on");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}

#[test]
fn a_rise_of_memory_leaves_who_mapped_it() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let mut program = Program::start(&Workload::c("memory")?, Some(&cgroup))?;
    let rule = "memory=min:100,diff:0,abs:0.3,max:0,cooldown:1m";
    let recorder = Setup::only_rule(rule).cgroup(&cgroup).start()?;
    recorder.wait_for_warm_up();
    // A hundredth of the host: well above the rule, well below what hurts.
    let asked = asked(&program.ask(&format!("touch {}", machine::memory_mib()? / 100), "asked ")?)?;
    let incident = recorder.wait_incident(1)?;
    ensure!(incident.name().contains("-memory-"), "the folder is called {}", incident.name());
    let stems = incident.validate()?;
    ensure!(stems.contains("mmap") && stems.contains("cpu"), "profiles: {stems:?}");
    let profile = incident.profile("mmap")?;
    let (found, wanted) = (profile.cumulative("mapped", "hold_memory")?, asked["mmap_bytes"]);
    let total = profile.total("mapped")?;
    ensure!(found == wanted && total == wanted, "{found} of {wanted}:\n{}", profile.top("mapped"));
    let value = incident.number("/value")?;
    ensure!(value > 0.3, "the value that fired is {value}");
    recorder.stop()?.account.expect_balanced()?;
    Ok(())
}
