//! Go's own reader of profiles.
//!
//! Must not: interpret what it prints.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Context;

/// Runs `go tool pprof` with these arguments and returns what it prints on standard output.
///
/// # Errors
/// Go is not installed, or refuses the profile; the error shows what it said.
pub fn pprof<S: AsRef<OsStr>>(arguments: &[S]) -> anyhow::Result<String> {
    let output = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none"])
        .args(arguments)
        .output()
        .context("running `go tool pprof`: is Go installed?")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "`go tool pprof` refuses:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// The flat values of the lines of `-top -unit=count` and the like that are below zero.
pub fn negative_rows(top: &str) -> Vec<&str> {
    top.lines().filter(|line| line.trim_start().starts_with('-')).collect()
}
