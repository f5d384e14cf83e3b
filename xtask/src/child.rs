//! A child process that does not outlive what it was started for.
//!
//! Must not: end a process that it was not given.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;

/// How long a child may take to end after SIGTERM, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// How often the end of a child is looked for.
const POLL: Duration = Duration::from_millis(10);

/// A child that is ended on drop.
#[derive(Debug)]
pub struct Ended(Child);

impl Ended {
    /// Takes charge of it.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Starts it in a process group of its own, so that Ctrl-C reaches us alone and we end it in
    /// order; and has the kernel kill it, should we be killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.process_group(0);
        // SAFETY: one system call without pointers, in the child.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", command::shown(command)))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }

    /// Ends it: asked first, then forced.
    pub fn end(&mut self) {
        self.end_by("TERM");
    }

    /// As [`Ended::end`], asked with this signal.
    pub fn end_by(&mut self, polite: &str) {
        let deadline = Instant::now() + GRACE;
        let mut signal = polite;
        while let Ok(None) = self.0.try_wait() {
            command::signal(signal, self.0.id(), false);
            // The recorder takes a second SIGTERM for impatience: ask once, then wait.
            while let Ok(None) = self.0.try_wait() {
                if Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(POLL);
            }
            signal = "KILL";
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_its_owner() {
        let child = Ended::start(&mut command::of("sleep", &["1000"])).unwrap();
        let proc = format!("/proc/{}", child.pid());
        assert!(std::path::Path::new(&proc).exists());
        drop(child);
        assert!(!std::path::Path::new(&proc).exists());
    }
}
