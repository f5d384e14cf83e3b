//! `cargo xtask vm [VERSION...] [-- FILTER...]`: the live tests on Debian's kernels, each in a
//! virtual machine whose files are the host's, read-only, with pure cgroup v2.
//!
//! - [`apt`]: Debian's packages, without installing them;
//! - [`kernels`] and [`modules`]: which kernel a version is, and what a guest needs of it;
//! - [`hypervisor`]: the emulator and what belongs to it;
//! - [`initramfs`]: the guest's first root;
//! - [`guest`]: boots one and listens;
//! - [`outcome`]: what it said.
//!
//! Must not: take a guest that said nothing for one whose tests passed, or change the host.

mod apt;
mod guest;
mod hypervisor;
mod initramfs;
mod kernels;
mod modules;
mod outcome;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::test::count::Counts;
use crate::{command, workspace};
use apt::Apt;
use guest::Job;
use hypervisor::Hypervisor;
use kernels::Kernel;
use outcome::Outcome;

/// The oldest kernel that has what the probes need, Debian's two stable ones, and the newest.
const MATRIX: [&str; 4] = ["5.10", "6.1", "6.12", kernels::NEWEST];

/// What `cargo xtask test` runs, where three guests have a quarter of an hour on two CPUs: the
/// kernels that distributions ship, and the live tests but those whose outcome hangs least on the
/// kernel. They are run on this machine's own kernel all the same.
pub const BRIEF: [&str; 50] = [
    "5.10",
    "6.1",
    "6.12",
    "--",
    "--skip",
    "goheap::", // read from memory, as `goroutines`
    "--skip",
    "languages::", // four spikes, each read by Go's tool; `targets` has spikes too
    "--skip",
    "bad_input::", // refused before a probe is loaded
    "--skip",
    "lifecycle::", // signals, folders and HTTP, as the next ones
    "--skip",
    "losses::",
    "--skip",
    "metrics::",
    "--skip",
    "reload::",
    "--skip",
    "triggers::",
    "--skip",
    "a_heap_that_is_collected", // a rule over numbers that others of `leak` have, too
    "--skip",
    "unwind::", // another unwinder takes minutes there; `processes` asks for whole stacks
    "--skip",
    "runtimes::", // the same
    "--skip",
    "jit::", // names, not stacks
    "--skip",
    "an_executable_that_is",
    "--skip",
    "a_library_that_is_loaded_late",
    "--skip",
    "as_perf", // the host's perf, on another kernel
    "--skip",
    "allocations::", // allocators, not kernels; `verifier` loads the probes
    "--skip",
    "resident::", // a GiB at a time, on an emulated CPU
    "--skip",
    "goroutines::", // versions of Go, not kernels
    "--skip",
    "cases::", // the same rules and profiles as of others
    "--skip",
    "timeline::", // the records of `waits`, in other formats
    "--skip",
    "waits::shapes::", // languages; `waits` has the kernel's part
    "--skip",
    "an_interpreter_waits", // the same
    "--skip",
    "monitors_in_java",
];

/// A guard against a guest that never ends. All live tests take three quarters of an hour on an emulated
/// CPU: half of it is another unwinder's, which the tests compare with.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// Arguments of `cargo xtask vm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kernels as two numbers (`6.1`), or `newest`: the newest in Debian's backports. All four of
    /// the matrix when none is given.
    versions: Vec<String>,
    /// Names of live tests, or parts of them; all when none is given.
    #[arg(last = true)]
    filters: Vec<String>,
}

/// One kernel's result.
struct Row {
    wanted: String,
    release: String,
    outcome: Outcome,
    trouble: Option<String>,
    took: Duration,
}

/// Why no guest can be run here, if so.
pub fn impossible() -> Option<&'static str> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the guests are x86-64, and so are their files, which are this machine's");
    }
    let may = command::is_root() || command::sudo_without_password();
    (!may).then_some("needs root, to show a guest all of this machine's files: run `sudo -v` first")
}

/// Fetches what is missing, builds, and boots one kernel after the other.
///
/// # Errors
/// When a kernel cannot be had, a guest does not run its tests to the end, or a test fails.
pub fn run(args: &Args) -> Result<()> {
    if let Some(why) = impossible() {
        bail!(why);
    }
    let mut wanted: Vec<&str> = args.versions.iter().map(String::as_str).collect();
    if wanted.is_empty() {
        wanted = MATRIX.to_vec();
    }
    for version in &wanted {
        kernels::check_wanted(version)?;
    }
    let cache = command::tools().join("vm");
    let apt = Apt::set_up(cache.join("apt"))?;
    let hypervisor = Hypervisor::fetch(&apt, &cache)?;
    let names = apt.names("linux-")?;
    let mut kernels: Vec<(&str, Kernel)> = Vec::new();
    for version in wanted {
        kernels.push((version, kernels::fetch(&apt, &names, version, &cache.join("kernels"))?));
    }
    let downloaded =
        hypervisor.downloaded + kernels.iter().map(|(_, one)| one.downloaded).sum::<u64>();
    println!("downloaded {} MB", downloaded / 1_000_000);
    let job = job(&args.filters)?;
    let mut rows = Vec::new();
    for (version, kernel) in kernels {
        rows.push(boot(&hypervisor, version, &kernel, &job, &cache)?);
    }
    report(&rows)
}

fn boot(
    hypervisor: &Hypervisor,
    wanted: &str,
    kernel: &Kernel,
    job: &Job,
    cache: &std::path::Path,
) -> Result<Row> {
    println!("\n--> Linux {}", kernel.release);
    let began = Instant::now();
    let folder = cache.join("guests").join(&kernel.release);
    // The mark in front keeps the guests' own summaries from being counted as this task's.
    let show = |line: &str| println!("[{wanted} {:>4.0}s] {line}", began.elapsed().as_secs_f64());
    let outcome = guest::run(hypervisor, kernel, job, &folder, LIMIT, show)?;
    let trouble = outcome.verdict(&kernel.release).err().map(|error| format!("{error:#}"));
    let row = Row {
        wanted: wanted.to_owned(),
        release: kernel.release.clone(),
        outcome,
        trouble,
        took: began.elapsed(),
    };
    Ok(row)
}

/// Says how each kernel did, in libtest's words: whoever counts tests reads them.
fn report(rows: &[Row]) -> Result<()> {
    let mut broken = Vec::new();
    for row in rows {
        println!("\nLinux {} ({}):", row.release, row.wanted);
        for what in &row.outcome.not_run {
            println!("  not run: {what}");
        }
        for name in &row.outcome.failed {
            println!("  FAILED: {name}");
        }
        let Counts { passed, failed, skipped } = row.outcome.counts();
        let word = if row.trouble.is_none() { "ok" } else { "FAILED" };
        let boot = row.outcome.boot.map_or("never".to_owned(), |boot| format!("after {boot:.1} s"));
        println!(
            "test result: {word}. {passed} passed; {failed} failed; {skipped} ignored; \
             started {boot}, finished in {:.0} s",
            row.took.as_secs_f64()
        );
        if let Some(trouble) = &row.trouble {
            broken.push(format!("Linux {}: {trouble}", row.release));
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("; "));
    }
    Ok(())
}

/// Builds the recorder, the live tests and the programs they watch on the host: compilers are slow
/// on an emulated CPU.
fn job(filters: &[String]) -> Result<Job> {
    let recorder = ["build", "--release", "--locked", "--package", "holmes-user"];
    command::run(&mut command::of_cargo(&recorder))?;
    let workloads = "workload::tests::every_workload_builds";
    let build = ["test", "--locked", "--quiet", "--package", "holmes-tests", "--lib", "--"];
    let mut build = command::of_cargo(&build);
    // Its own count of one test is none of the guests'.
    let built = command::output(build.args(["--exact", workloads]))?;
    if !built.contains("1 passed") {
        bail!("the test {workloads}, which builds what the live tests watch, is not there");
    }
    let tests = live_tests()?;
    let mut command = vec![tests.display().to_string(), "--test-threads=1".to_owned()];
    command.extend(["--color".to_owned(), "never".to_owned()]);
    command.extend(filters.iter().cloned());
    let path = command::path_with_tools()?;
    let mut environment = vec![
        ("PATH".to_owned(), path.to_string_lossy().into_owned()),
        ("HOLMES_BIN".to_owned(), workspace::recorder().display().to_string()),
        ("HOLMES_NOT_RUN".to_owned(), "/.holmes-guest/not-run".to_owned()),
    ];
    // Where cargo, rustup and go keep what they have: all of it is on the host.
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "GOPATH", "GOCACHE"] {
        environment.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    Ok(Job { command, folder: workspace::root().join("tests"), environment })
}

/// Builds the live tests and gives the executable, as cargo names it.
fn live_tests() -> Result<PathBuf> {
    let arguments = ["test", "--locked", "--package", "holmes-tests", "--test", "live", "--no-run"];
    let mut build = command::of_cargo(&arguments);
    build.args(["--message-format", "json"]).stderr(Stdio::inherit());
    let messages = command::output(&mut build)?;
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_live = message.pointer("/target/name")?.as_str()? == "live";
        let file = message.get("executable")?.as_str()?;
        is_live.then(|| PathBuf::from(file))
    });
    executable.context("cargo built no executable of the live tests")
}
