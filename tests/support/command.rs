//! The recorder's binary as a command that ends by itself: `record`, `check`, `--help`, bad input.
//!
//! Must not: know what the commands do.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::Context;

use crate::confine::Confinement;
use crate::program::Program;
use crate::transcript::HANG_GUARD;

/// Where the recorder's binary is: `HOLMES_BIN`, or beside the test binaries.
///
/// # Errors
/// It is in neither place; the error says how to build it.
pub fn recorder_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOLMES_BIN") {
        return Ok(PathBuf::from(path));
    }
    let path = target_profile_dir()?.join("holmes-ebpf");
    anyhow::ensure!(
        path.is_file(),
        "{} does not exist: `cargo build -p holmes-user` builds it, or set HOLMES_BIN",
        path.display()
    );
    Ok(path)
}

/// The folder cargo puts this build's binaries in: test binaries are in its `deps`.
pub(crate) fn target_profile_dir() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("asking for the test binary's path")?;
    let dir = test.ancestors().nth(2).context("the test binary is not in a target folder")?;
    Ok(dir.to_owned())
}

/// What a command left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// # Errors
    /// The exit code is another one; the error shows what was printed.
    pub fn expect_code(self, code: i32) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.code() == code,
            "exit code {code} expected, got {:?}\nstdout:\n{}\nstderr:\n{}",
            self.status,
            self.text(),
            self.stderr
        );
        Ok(self)
    }

    /// # Errors
    /// Standard error lacks one of `words` (compared without regard to case).
    pub fn expect_said(&self, words: &[&str]) -> anyhow::Result<()> {
        let said = self.stderr.to_lowercase();
        for word in words {
            anyhow::ensure!(
                said.contains(&word.to_lowercase()),
                "the message does not say {word:?}; it was:\n{}",
                self.stderr
            );
        }
        Ok(())
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs the recorder's binary to its end.
///
/// # Errors
/// It is missing, cannot be started, or does not end.
pub fn run<I, S>(arguments: I) -> anyhow::Result<Finished>
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    run_confined(&recorder_binary()?, arguments, &Confinement::default())
}

/// Runs `binary` to its end under a confinement.
///
/// # Errors
/// It cannot be started, or does not end within [`HANG_GUARD`] (then it is killed, and the error
/// shows what it printed).
pub fn run_confined<I, S>(
    binary: &Path,
    arguments: I,
    confinement: &Confinement,
) -> anyhow::Result<Finished>
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null());
    confinement.apply(&mut command)?;
    Program::spawn(command)?.finish(HANG_GUARD)
}
