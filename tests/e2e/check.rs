//! `holmes-ebpf check`: the doctor.

use anyhow::ensure;
use holmes_tests::command;
use holmes_tests::command::{recorder_binary, run_confined};
use holmes_tests::confine::Confinement;
use holmes_tests::machine;

#[test]
fn it_finds_what_the_machine_has() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let said = command::run(["check"])?.expect_code(0)?.text();
    for word in ["CAP_BPF", "BTF", "cgroup", "kernel log"] {
        ensure!(said.contains(word), "nothing about {word}:\n{said}");
    }
    Ok(())
}

/// What is missing comes with the command that mends it.
#[test]
fn what_is_missing_comes_with_its_cure() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let confinement = Confinement::default().without_capabilities();
    let finished = run_confined(&recorder_binary()?, ["check"], &confinement)?.expect_code(1)?;
    let said = finished.text();
    for word in ["CAP_PERFMON", "fix:", "sudo"] {
        ensure!(said.contains(word), "nothing about {word}:\n{said}");
    }
    Ok(())
}
