//! What a newcomer asks first: `--help` and completions.

use anyhow::ensure;
use holmes_tests::command;

#[test]
fn help_names_every_command_and_option() -> anyhow::Result<()> {
    let help = command::run(["--help"])?.expect_code(0)?.text();
    let commands = ["record", "replay", "check", "completions"];
    let options = ["--cgroup", "--pid", "--rule", "--lookback", "--dump-dir", "--listen"];
    for word in commands.iter().chain(&options) {
        ensure!(help.contains(word), "`--help` does not tell of {word}:\n{help}");
    }
    let record = command::run(["record", "--help"])?.expect_code(0)?.text();
    for word in ["-F", "-d", "-o", "folded", "pprof", "--allocations"] {
        ensure!(record.contains(word), "`record --help` does not tell of {word}:\n{record}");
    }
    Ok(())
}

#[test]
fn completions_for_the_usual_shells() -> anyhow::Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let script = command::run(["completions", shell])?.expect_code(0)?.text();
        ensure!(script.contains("holmes-ebpf"), "{shell}: {script}");
        ensure!(script.contains("record"), "{shell}: no subcommand in {script}");
    }
    command::run(["completions", "no-such-shell"])?.expect_code(2)?.expect_said(&["bash"])
}

/// A reader that has seen enough is no error worth a panic.
#[test]
fn help_into_a_pipe_that_closes() -> anyhow::Result<()> {
    let binary = command::recorder_binary()?.display().to_string();
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "\"$0\" --help | head -n 1", &binary])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.is_empty() && !output.stdout.is_empty(), "it said: {said}");
    Ok(())
}
