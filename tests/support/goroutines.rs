//! Goroutine profiles as text: what a Go program prints of itself, and what is said of it from outside.
//!
//! Must not: interpret names.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::command::{Finished, recorder_binary};
use crate::program::Program;
use crate::transcript::HANG_GUARD;

/// What `holmes-ebpf goroutines` prints of a process.
///
/// # Errors
/// It fails.
pub fn from_outside(pid: u32, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(recorder_binary()?);
    command.args(["goroutines", "-q", "-p", &pid.to_string()]).args(arguments);
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).context("it printed no text")
}

/// How `holmes-ebpf goroutines` ends that may fail: it was told what it is asked for, or says of whom it
/// could not tell it, and why.
///
/// # Errors
/// It ends in another way.
pub fn told_or_said(pid: u32, arguments: &[&str]) -> anyhow::Result<Finished> {
    let mut command = Command::new(recorder_binary()?);
    command.args(["goroutines", "-q", "-p", &pid.to_string()]).args(arguments);
    let finished = Program::spawn(command)?.finish(HANG_GUARD)?;
    let error = &finished.stderr;
    match finished.code() {
        0 => {}
        1 => {
            let names = format!("cannot tell the goroutines of process {pid}");
            ensure!(error.contains(&names) && error.contains("because: "), "{error}");
        }
        other => anyhow::bail!("code {other}: {error}"),
    }
    Ok(finished)
}

/// What the workload prints of itself: by `profile` (as `debug=1`) or `dump` (as `debug=2`).
///
/// # Errors
/// It does not answer.
pub fn from_inside(program: &mut Program, command: &str) -> anyhow::Result<String> {
    let first = program.stdout.lines().len();
    program.ask(command, " lines")?;
    program.hear("end of text")?;
    let lines = program.stdout.lines();
    // Up to the line that says how many there are.
    let from = lines.iter().skip(first).position(|line| line.ends_with(" lines"));
    let from = first + from.context("no such line")? + 1;
    let text = lines.get(from..lines.len() - 1).context("nothing in between")?;
    Ok(text.join("\n") + "\n")
}

/// The groups of a `debug=1` profile: each count and stack, without the heading.
pub fn groups(text: &str) -> Vec<&str> {
    let behind = text.split_once('\n').map_or("", |(_, rest)| rest);
    behind.split("\n\n").map(|group| group.trim_end()).filter(|it| !it.is_empty()).collect()
}

/// The goroutines of a `debug=2` dump by number. What functions were called with is replaced by dots:
/// it is not told from outside.
pub fn goroutines(text: &str) -> BTreeMap<u64, String> {
    let number = |block: &str| block.split(' ').nth(1)?.parse().ok();
    let blocks = text.trim_end().split("\n\n");
    blocks.filter_map(|block| Some((number(block)?, without_arguments(block)))).collect()
}

fn without_arguments(block: &str) -> String {
    let lines = block.lines().map(|line| {
        let is_call =
            !["\t", "goroutine ", "created by ", "..."].iter().any(|other| line.starts_with(other));
        match line.rfind('(').filter(|_| is_call) {
            Some(at) => format!("{}(...)", &line[..at]),
            None => line.to_owned(),
        }
    });
    lines.collect::<Vec<String>>().join("\n")
}
