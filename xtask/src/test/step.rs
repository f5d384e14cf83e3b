//! Runs one step: streams its output, counts its tests, and ends it when it hangs.
//!
//! Must not: know which steps there are.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::count::{self, Counts};
use super::report::Outcome;
use crate::command;

/// How often a running step is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How long a step may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// One step of the plan.
pub struct Step {
    /// Its name in the table.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
}

/// What a step does.
pub enum Action {
    /// Runs these commands in order, to the first that fails.
    Commands {
        /// The commands.
        commands: Vec<Command>,
        /// A guard against hanging, over all of them. Not an expectation.
        limit: Duration,
    },
    /// Calls a task of ours.
    Task(fn() -> Result<()>),
    /// Cannot be run; says why.
    Impossible(String),
}

/// A flag that Ctrl-C and SIGTERM set: the running step is ended, and the report is printed.
///
/// # Errors
/// When the handlers cannot be set.
pub fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .context("cannot handle Ctrl-C and SIGTERM")?;
    }
    Ok(flag)
}

impl Step {
    /// Runs it to its end.
    pub fn run(self, interrupted: &AtomicBool) -> Outcome {
        match self.action {
            Action::Impossible(why) => Outcome::Skipped(why),
            Action::Task(task) => match task() {
                Ok(()) => Outcome::Passed(Counts::default()),
                Err(error) => Outcome::Failed(Counts::default(), format!("{error:#}")),
            },
            Action::Commands { commands, limit } => {
                let mut counts = Counts::default();
                let deadline = Instant::now() + limit;
                for mut command in commands {
                    println!("$ {}", command::shown(&command));
                    if let Err(error) = stream(&mut command, deadline, interrupted, &mut counts) {
                        return Outcome::Failed(counts, format!("{error:#}"));
                    }
                }
                Outcome::Passed(counts)
            }
        }
    }
}

/// Runs a command in a process group of its own, so that all it started can be ended with it.
fn stream(
    command: &mut Command,
    deadline: Instant,
    interrupted: &AtomicBool,
    counts: &mut Counts,
) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", command::shown(command)))?;
    let reader = child.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            let mut counts = Counts::default();
            let mut lines = BufReader::new(stdout);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                show(&line);
                if let Some(of_one) = count::summary(&String::from_utf8_lossy(&line)) {
                    counts += of_one;
                }
                line.clear();
            }
            counts
        })
    });
    let ended = supervise(&mut child, deadline, interrupted);
    // A stray grandchild may keep the pipe open: without this the join would wait for it.
    command::signal("KILL", child.id(), true);
    if let Some(Ok(of_this)) = reader.map(std::thread::JoinHandle::join) {
        *counts += of_this;
    }
    ended.with_context(|| format!("`{}`", command::shown(command)))
}

/// Passes a line of a command on to our own output.
fn show(line: &[u8]) {
    if cfg!(test) {
        // Captured by the test harness: the made-up results of the tests below must not be counted
        // by whoever runs them.
        print!("{}", String::from_utf8_lossy(line));
    } else {
        // Ignored: a reader of ours that went away must not stop the tests.
        let _ = std::io::stdout().write_all(line);
    }
}

fn supervise(child: &mut Child, deadline: Instant, interrupted: &AtomicBool) -> Result<()> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            anyhow::ensure!(status.success(), "{status}");
            return Ok(());
        }
        let why = if interrupted.load(Ordering::Relaxed) {
            "interrupted"
        } else if Instant::now() > deadline {
            "hangs: took longer than the step's limit"
        } else {
            std::thread::sleep(POLL);
            continue;
        };
        command::signal("TERM", child.id(), true);
        let killed_at = Instant::now() + GRACE;
        while child.try_wait().context("cannot wait for it")?.is_none() {
            if Instant::now() > killed_at {
                command::signal("KILL", child.id(), true);
            }
            std::thread::sleep(POLL);
        }
        anyhow::bail!(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Outcome {
        let commands = vec![command::of("sh", &["-c", script])];
        let step = Step { name: "x", action: Action::Commands { commands, limit } };
        step.run(&AtomicBool::new(false))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn counts_come_from_the_output() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'; \
                      echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured'";
        let counts = Counts { passed: 5, failed: 0, skipped: 1 };
        assert_eq!(shell(script, LONG), Outcome::Passed(counts));
    }

    #[test]
    fn a_failure_keeps_its_counts() {
        let script = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101";
        match shell(script, LONG) {
            Outcome::Failed(counts, why) => {
                assert_eq!(counts, Counts { passed: 2, failed: 1, skipped: 0 });
                assert!(why.contains("101"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hanging_step_is_ended_with_its_children() {
        match shell("sleep 1000 & wait", Duration::ZERO) {
            Outcome::Failed(_, why) => assert!(why.contains("hangs"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stray_grandchild_does_not_hold_the_step_up() {
        assert_eq!(shell("sleep 1000 &", LONG), Outcome::Passed(Counts::default()));
    }
}
