//! Whole stacks of programs as distributions and other compilers build them, and of runtimes that
//! compile while they run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::ensure;
use holmes_tests::agreement::Agreement;
use holmes_tests::machine;
use holmes_tests::program::Program;
use holmes_tests::workload::Workload;

use crate::unwind::{Recorded, SECONDS, WHOLE, compared, expect_whole};

/// How long a runtime with tables of hundreds of thousands of rows is recorded.
const LARGE_SECONDS: u32 = 8;

/// Starts a workload that spins by itself, and compares.
fn of_script(workload: &Workload, seconds: u32) -> anyhow::Result<(Recorded, Agreement)> {
    let program = Program::start(workload, None)?;
    compared(program.pid(), seconds)
}

/// Starts a workload that spins when it is told, and compares.
fn of_spinner(workload: &Workload) -> anyhow::Result<(Recorded, Agreement)> {
    let mut program = Program::start(workload, None)?;
    program.ask("spin", "spinning")?;
    compared(program.pid(), SECONDS)
}

/// Its hand-written assembly keeps the old stack pointer in another register while it sets up its
/// frame, and here and there throughout: at most a tenth of the time may be spent there.
fn openssl(algorithm: &[&str]) -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(openssl) = machine::installed("openssl") else { return Ok(()) };
    let mut command = Command::new(openssl);
    // For machines it says what it does in a line of its own, before it does it.
    command.args(["speed", "-mr", "-seconds", "30"]).args(algorithm).stdin(Stdio::null());
    let program = Program::spawn(command)?;
    program.hear_error("+DT")?;
    let (_recorded, agreement) = compared(program.pid(), SECONDS)?;
    ensure!(agreement.contradictions == 0, "{agreement}");
    ensure!(agreement.percent_whole_where_possible() >= WHOLE, "{agreement}");
    ensure!(agreement.other_register() * 10 <= agreement.samples, "{agreement}");
    Ok(())
}

#[test]
fn openssl_signs() -> anyhow::Result<()> {
    openssl(&["rsa2048"])
}

#[test]
fn openssl_encrypts() -> anyhow::Result<()> {
    openssl(&["-evp", "aes-256-gcm"])
}

#[test]
fn python_of_the_distribution() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let python = PathBuf::from("/usr/bin/python3");
    if !python.is_file() {
        eprintln!("not run: {} is not installed", python.display());
        return Ok(());
    }
    let (_recorded, agreement) = of_script(&Workload::script(python, &[], "whirl.py"), SECONDS)?;
    expect_whole(&agreement)
}

#[test]
fn node() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(node) = machine::installed("node") else { return Ok(()) };
    let (_recorded, agreement) =
        of_script(&Workload::script(node, &[], "calls.js"), LARGE_SECONDS)?;
    expect_whole(&agreement)
}

#[test]
fn java_with_frame_pointers() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(java) = machine::installed("java") else { return Ok(()) };
    let workload = Workload::script(java, &["-XX:+PreserveFramePointer"], "spin.java");
    let (_recorded, agreement) = of_script(&workload, LARGE_SECONDS)?;
    expect_whole(&agreement)
}

#[test]
fn go() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for workload in [Workload::go_spin()?, Workload::stripped_go_spin()?] {
        let (_recorded, agreement) = of_spinner(&workload)?;
        expect_whole(&agreement)?;
    }
    Ok(())
}

#[test]
fn rust_without_frame_pointers_and_symbols() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let (_recorded, agreement) = of_spinner(&Workload::stripped_rust_spin()?)?;
    expect_whole(&agreement)?;
    // All but all frames can be compared: the program and Rust's own library have rules throughout.
    ensure!(agreement.whole_and_same * 10 > agreement.samples * 9, "{agreement}");
    Ok(())
}
