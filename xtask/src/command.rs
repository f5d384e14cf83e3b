//! Child processes: run one, read what it prints, find it on the path, signal it.
//!
//! Must not: know what the commands are for.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// What an outer cargo or rustup tells its children. A build with another compiler must not see
/// any of it.
const OUTER_CARGO: [&str; 10] = [
    "CARGO",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // Which cargo it is, of all that rustup has, is no news to the reader.
    let is_cargo = program.file_name().is_some_and(|name| name == "cargo");
    let mut line = if is_cargo { "cargo".into() } else { program.display().to_string() };
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs to the end, with the output going where ours goes.
///
/// # Errors
/// When it cannot be started, or ends with another status than success.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end and gives what it printed on its standard output.
///
/// # Errors
/// When it cannot be started, or ends with another status than success; the message holds what it
/// said on its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs us, in the clone.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo
}

/// The cargo that runs us, in the clone, with these arguments.
pub fn of_cargo(arguments: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo.args(arguments);
    cargo
}

/// Removes what the cargo that runs us has put into the environment.
pub fn without_outer_cargo(command: &mut Command) -> &mut Command {
    for name in OUTER_CARGO {
        command.env_remove(name);
    }
    command
}

/// The file that a shell would run for this name, or `None`. Cargo's own folder of installed tools
/// is looked at as well: it is often missing from a service's `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([workspace::cargo_home().join("bin"), tools().join("bin")])
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

/// Where tools live that are used without being installed on the machine.
pub fn tools() -> PathBuf {
    workspace::target().join("tools")
}

/// `PATH` with the folders that [`find`] looks at beside it.
///
/// # Errors
/// When one of them holds a `:`.
pub fn path_with_tools() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain([workspace::cargo_home().join("bin"), tools().join("bin")]);
    std::env::join_paths(folders).context("cannot extend PATH")
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

/// Whether we are root.
pub fn is_root() -> bool {
    // /proc/self belongs to the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Becomes this task again through sudo, with what it needs of the environment, and `more` of it.
///
/// # Errors
/// When there is no sudo, or it cannot be started; else this does not return.
pub fn become_root<S: AsRef<OsStr>>(
    task: impl IntoIterator<Item = S>,
    more: &[(&str, OsString)],
) -> Result<()> {
    if find("sudo").is_none() {
        bail!("the kernel probes need root, and there is no sudo here; run it again as root");
    }
    eprintln!("The kernel probes need root: going on through sudo.");
    let mut sudo = of("sudo", &["--", "env"]);
    let own = [
        ("PATH", path_with_tools()?),
        ("CARGO_MANIFEST_DIR", workspace::root().join("xtask").into()),
    ];
    for (name, value) in own.iter().chain(more) {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        sudo.arg(setting);
    }
    let us = std::env::current_exe().context("cannot find this program")?;
    let error = sudo.arg(us).args(task).exec();
    bail!("cannot start sudo: {error}")
}

/// Whether `sudo` makes us root without asking for a password.
pub fn sudo_without_password() -> bool {
    find("sudo").is_some()
        && Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// A command that root runs: through `sudo` where we are somebody else.
pub fn as_root(name: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(name);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "--preserve-env", "--"]).arg(name);
    sudo
}

/// Sends a signal (`TERM`, `INT`, `KILL`) to a process, or to a process group when `group`.
pub fn signal(name: &str, pid: u32, group: bool) {
    let target = if group { format!("-{pid}") } else { pid.to_string() };
    // Ignored: the process may have ended by itself, which is what we want.
    let _ = Command::new("kill")
        .args(["-s", name, "--", &target])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// A command of this name with these arguments.
pub fn of<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, arguments: &[S]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}
