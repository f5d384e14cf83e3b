//! A child process with its output collected: a workload that listens, or a command that ends.
//!
//! Must not: end any process but its own child.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cgroup::TestCgroup;
use crate::command::Finished;
use crate::transcript::{HANG_GUARD, Transcript};
use crate::workload::Workload;

/// A running child, killed when dropped.
pub struct Program {
    child: Child,
    /// What it prints on standard output.
    pub stdout: Transcript,
    /// What it prints on standard error.
    pub stderr: Transcript,
    /// Lines of standard output that were waited for already.
    heard: usize,
}

impl Program {
    /// Starts a workload inside `cgroup` (in the test's own without one) and waits until it says
    /// `ready`.
    ///
    /// # Errors
    /// It cannot be started, or does not say so.
    pub fn start(workload: &Workload, cgroup: Option<&TestCgroup>) -> anyhow::Result<Self> {
        let mut program = Self::begin(workload, cgroup)?;
        program.hear("ready")?;
        Ok(program)
    }

    /// As [`Program::start`], without waiting for a word.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(workload: &Workload, cgroup: Option<&TestCgroup>) -> anyhow::Result<Self> {
        let mut command = workload.command();
        if let Some(cgroup) = cgroup {
            cgroup.join_at_exec(&mut command)?;
        }
        Self::spawn(command)
    }

    /// Starts a command, with pipes for its output. It dies with the test.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: a system call without pointers, in the child.
        unsafe {
            command.pre_exec(|| {
                // The signal is a safety net for a test that is killed: nothing depends on it.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().context("the child has no standard output")?;
        let stderr = child.stderr.take().context("the child has no standard error")?;
        Ok(Self {
            child,
            stdout: Transcript::follow(stdout),
            stderr: Transcript::follow(stderr),
            heard: 0,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// It does not listen any more.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("the child has no standard input")?;
        writeln!(stdin, "{line}").with_context(|| format!("telling the workload {line:?}"))
    }

    /// Waits for its next line that contains `pattern`.
    ///
    /// # Errors
    /// It does not come.
    pub fn hear(&mut self, pattern: &str) -> anyhow::Result<String> {
        let (number, line) = self
            .stdout
            .wait_for(pattern, self.heard, HANG_GUARD)
            .with_context(|| format!("standard error was:\n{}", self.stderr))?;
        self.heard = number + 1;
        Ok(line)
    }

    /// Sends it a line and waits for the answer.
    ///
    /// # Errors
    /// It does not listen, or does not answer so.
    pub fn ask(&mut self, line: &str, answer: &str) -> anyhow::Result<String> {
        self.tell(line)?;
        self.hear(answer)
    }

    /// Waits for a line of standard error that holds `pattern`.
    ///
    /// # Errors
    /// It does not come; the error shows what came.
    pub fn hear_error(&self, pattern: &str) -> anyhow::Result<String> {
        Ok(self.stderr.wait_for(pattern, 0, HANG_GUARD)?.1)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: libc::c_int) -> anyhow::Result<()> {
        let pid = libc::pid_t::try_from(self.pid()).context("a pid out of range")?;
        // SAFETY: no pointer. The child is not waited for yet, so its pid is still its own.
        let result = unsafe { libc::kill(pid, signal) };
        anyhow::ensure!(result == 0, "signal {signal}: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("waiting for a child")
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It has not within `guard`.
    pub fn wait(&mut self, guard: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + guard;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "it did not end within {guard:?}; it printed:\n{}{}",
                self.stdout,
                self.stderr
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has ended, and returns all it printed.
    ///
    /// # Errors
    /// It does not end within `guard`.
    pub fn finish(mut self, guard: Duration) -> anyhow::Result<Finished> {
        let status = self.wait(guard)?;
        self.stdout.wait_for_end(HANG_GUARD)?;
        self.stderr.wait_for_end(HANG_GUARD)?;
        let stderr = self.stderr.lines().join("\n");
        Ok(Finished { status, stdout: self.stdout.bytes(), stderr })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended and been waited for: then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
