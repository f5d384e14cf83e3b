//! What the kernel's verifier makes of the probes: all of them pass, far from its limits.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::command::recorder_binary;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::recorder::Setup;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

/// The verifier gives up a program after this many instructions (`BPF_COMPLEXITY_LIMIT_INSNS`).
const LIMIT: u64 = 1_000_000;

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

/// The programs that a process holds: more than `at_least`, and each far from the limit.
fn expect_far_from_limit(pid: u32, at_least: usize) -> anyhow::Result<()> {
    // By the kernel's number of the program: it is open more than once.
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
    ensure!(programs.len() > at_least, "{} programs are loaded", programs.len());
    for (id, (kind, verified)) in &programs {
        // Kernels before 5.16 do not tell.
        println!("program {id} of type {kind}: {verified:?} instructions verified");
        ensure!(verified.unwrap_or(1) < LIMIT / 4, "program {id}: {verified:?} instructions");
    }
    Ok(())
}
