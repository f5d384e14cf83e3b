//! What there is one of: the machine's CPUs and memory, and the rights to watch them.
//!
//! Must not: change anything of the machine; but a file that the caller names.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;

/// Held by a test that loads the CPUs or counts what happens on the host. Cargo runs one test
/// binary after the other, so a lock inside the process is enough.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test of this binary uses the machine. A test that panicked leaves the
/// machine usable: its children are ended as it unwinds.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of CPUs that run tasks.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The host's memory in MiB.
///
/// # Errors
/// The kernel does not say.
pub fn memory_mib() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no MemTotal")?;
    Ok(kib.parse::<u64>()? / 1024)
}

/// Whether the test may act as root: what needs rights fails without them, and is not left out.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and changes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// The machine for a live test, or `None` with the reason printed where its kernel cannot run one.
/// Where it could, a recorder that does not work fails the test.
///
/// # Errors
/// The test is not run as root.
pub fn live() -> anyhow::Result<Option<MutexGuard<'static, ()>>> {
    if fs::metadata("/sys/kernel/btf/vmlinux").is_err() {
        not_run("this kernel has no BTF (/sys/kernel/btf/vmlinux)")?;
        return Ok(None);
    }
    anyhow::ensure!(is_root(), "the live tests watch the kernel: run them as root");
    Ok(Some(alone()))
}

/// Says why the test that calls this is not run here: in its output, which the harness keeps to
/// itself, and in the file that `HOLMES_NOT_RUN` names, so that whoever counts tests can tell it
/// from one that passed.
///
/// # Errors
/// That file cannot be written.
pub fn not_run(why: &str) -> anyhow::Result<()> {
    eprintln!("not run: {why}");
    let Some(path) = std::env::var_os("HOLMES_NOT_RUN") else { return Ok(()) };
    // The harness runs each test on a thread of that name.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test without a name");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
    writeln!(file, "{test}: {why}")?;
    Ok(())
}

/// Where a program is that a test can do without, or `None` with that printed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|it| it.is_file());
    if found.is_none() {
        eprintln!("not run: {program} is not installed");
    }
    found
}
