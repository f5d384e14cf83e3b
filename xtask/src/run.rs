//! `cargo xtask run [-- ARGS]`: builds the recorder and runs it on the whole host, as root.
//!
//! Must not: choose the recorder's settings. Everything after `--` is passed on as it is.

use std::os::unix::process::CommandExt;

use anyhow::{Result, bail};

use crate::{command, workspace};

/// Arguments of `cargo xtask run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passed on to the recorder; see `holmes-ebpf --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    recorder: Vec<String>,
}

/// Builds, then becomes the recorder: signals and the exit code are its own.
///
/// # Errors
/// When the build fails, or there is no way to become root.
pub fn run(args: &Args) -> Result<()> {
    command::run(&mut command::of_cargo(&["build", "--release", "--package", "holmes-user"]))?;
    let recorder = workspace::recorder();
    let mut start = if command::is_root() {
        command::of(&recorder, &args.recorder)
    } else if command::find("sudo").is_some() {
        eprintln!("The kernel probes need root: running through sudo.");
        let mut sudo = command::of("sudo", &["--"]);
        sudo.arg(&recorder).args(&args.recorder);
        sudo
    } else {
        bail!(
            "the kernel probes need root, and there is no sudo here; become root, then run {}",
            recorder.display()
        );
    };
    let error = start.exec();
    bail!("cannot start `{}`: {error}", command::shown(&start))
}
