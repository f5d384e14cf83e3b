//! What the kernel's verifier makes of the probes: all of them pass, far from its limits; and where it
//! refuses one, they go another way to the same numbers.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::confine::Confinement;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::refusal::Refusal;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

use crate::{memory, shares, waits};

/// The verifier gives up a program after this many instructions (`BPF_COMPLEXITY_LIMIT_INSNS`).
const LIMIT: u64 = 1_000_000;

/// What the kernel has where the probes begin with plain loads.
const HELPER: &[u8] = b"BPF_FUNC_task_pt_regs";

/// Programs that walk stacks and send records: two for each type of probe.
const CHAINED: usize = 6;

#[test]
fn every_program_is_far_from_the_limit() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    // That programs on functions are not allowed at all is told with the probe's other place.
    let is_refusal = |line: &String| line.contains("BPF_PROG_LOAD") && !line.contains("probes on:");
    let refused: Vec<String> = recorder.log().into_iter().filter(is_refusal).collect();
    ensure!(refused.is_empty(), "the kernel refuses programs: {refused:?}");

    expect_far_from_limit(recorder.pid(), CHAINED)?;
    recorder.stop()?.account.expect_balanced().context("the recorder's closing line")?;
    Ok(())
}

#[test]
fn every_program_of_allocations_is_far_from_the_limit() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let program = Program::start(&Workload::c("allocations")?, None)?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(recorder_binary()?);
    command.args(["record", "--allocations", "-d", "10m", "-p", &program.pid().to_string()]);
    command.arg("-o").arg(folder.path().join("out.pb.gz")).stdin(Stdio::null());
    let recorder = Program::spawn(command)?;
    recorder.hear_error("recording the allocations")?;
    // Of glibc's functions each has one, but for those that share it; and the two of the chain.
    expect_far_from_limit(recorder.pid(), 8)?;
    recorder.signal(libc::SIGINT)?;
    let finished = recorder.finish(HANG_GUARD)?.expect_code(0)?;
    ensure!(!finished.stderr.contains("refuses"), "{}", finished.stderr);
    Ok(())
}

/// One that refuses a plain load: all are loaded again, read through helpers, and count the same. By cgroup,
/// by process, and by the states of threads.
#[test]
fn what_it_refuses_is_read_through_helpers() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let types = fs::read("/sys/kernel/btf/vmlinux")?;
    if !types.windows(HELPER.len()).any(|name| name == HELPER) {
        return machine::not_run("this kernel is too old for plain loads: there is no other way");
    }
    let usual = verified(Confinement::default())?;
    let other = verified(Confinement::default().refused(&Refusal::default()))?;
    ensure!(usual.is_empty() || usual != other, "the same programs are loaded: {usual:?}");
    let in_its_world = |test: &dyn Fn(Confinement) -> anyhow::Result<()>| {
        let refusal = Refusal::default();
        test(Confinement::default().refused(&refusal))?;
        refusal.expect_all_again()
    };
    in_its_world(&memory::every_byte_is_counted).context("memory")?;
    in_its_world(&|world| waits::waits_are_as_measured(&world)).context("waits")?;
    in_its_world(&|world| shares::shares_are_right(&world)).context("samples")
}

/// What the kernel makes of the programs of a recorder in such a world, in instructions.
fn verified(world: Confinement) -> anyhow::Result<Vec<u64>> {
    let own = std::process::id().to_string();
    let recorder = Setup::no_rules().args(["--pid", &own]).confined(world).start()?;
    let mut verified: Vec<u64> =
        programs(recorder.pid())?.into_values().filter_map(|(_, verified)| verified).collect();
    recorder.stop()?;
    verified.sort_unstable();
    Ok(verified)
}

/// Of each program that a process holds, by the kernel's number of it (it is open more than once): its type
/// and the instructions that were verified, which kernels before 5.16 do not tell.
fn programs(pid: u32) -> anyhow::Result<BTreeMap<u64, (u64, Option<u64>)>> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            let lines = text.lines().find_map(|line| line.strip_prefix(name));
            lines.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if let (Some(kind), Some(id)) = (field("prog_type:"), field("prog_id:")) {
            programs.insert(id, (kind, field("verified_insns:")));
        }
    }
    Ok(programs)
}

/// The programs that a process holds: more than `at_least`, and each far from the limit.
fn expect_far_from_limit(pid: u32, at_least: usize) -> anyhow::Result<()> {
    let programs = programs(pid)?;
    ensure!(programs.len() > at_least, "{} programs are loaded", programs.len());
    for (id, (kind, verified)) in &programs {
        println!("program {id} of type {kind}: {verified:?} instructions verified");
        ensure!(verified.unwrap_or(1) < LIMIT / 4, "program {id}: {verified:?} instructions");
    }
    Ok(())
}
