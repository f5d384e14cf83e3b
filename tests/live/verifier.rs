//! What the kernel's verifier makes of the probes: all of them pass, far from its limits.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, ensure};
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::machine;
use holmes_tests::recorder::Setup;

/// The verifier gives up a program after this many instructions (`BPF_COMPLEXITY_LIMIT_INSNS`).
const LIMIT: u64 = 1_000_000;

/// Programs that walk stacks and send records: two for each type of probe.
const CHAINED: usize = 6;

#[test]
fn every_program_is_far_from_the_limit() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let cgroup = TestCgroup::new()?;
    let recorder = Setup::no_rules().cgroup(&cgroup).start()?;
    let refused: Vec<String> =
        recorder.log().into_iter().filter(|line| line.contains("BPF_PROG_LOAD")).collect();
    ensure!(refused.is_empty(), "the kernel refuses programs: {refused:?}");

    // By the kernel's number of the program: it is open more than once.
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", recorder.pid()))? {
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
    ensure!(programs.len() > CHAINED, "{} programs are loaded", programs.len());
    for (id, (kind, verified)) in &programs {
        // Kernels before 5.16 do not tell.
        println!("program {id} of type {kind}: {verified:?} instructions verified");
        ensure!(verified.unwrap_or(1) < LIMIT / 4, "program {id}: {verified:?} instructions");
    }
    recorder.stop()?.account.expect_balanced().context("the recorder's closing line")?;
    Ok(())
}
