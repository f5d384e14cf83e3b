//! `cargo xtask demo`: starts a service that spikes, in a cgroup of its own, and shows the incident
//! that the recorder leaves. All that it prints about the incident is read from the disk.
//!
//! - [`children`]: the recorder and the service, ended whatever happens;
//! - [`incident`]: shows an incident's folder.
//!
//! Must not: leave a process or a cgroup behind, also not after a failure or Ctrl-C.

mod children;
mod incident;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::{command, workspace};
use children::{Recorder, Service};

/// Steady work before the spike: the rules' ten warm-up samples, and two more.
const STEADY: Duration = Duration::from_secs(12);

/// The spike ends by itself, should everything else fail.
const SPIKE: Duration = Duration::from_secs(30);

/// How long the recorder may take to begin, and then the incident to be on disk.
const PATIENCE: Duration = Duration::from_secs(50);

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recorder and the service are built already.
    #[arg(long, hide = true)]
    built: bool,
}

/// Builds, spikes, shows.
///
/// # Errors
/// When something cannot be built or started, there is no root, or no incident comes.
pub fn run(args: &Args) -> Result<()> {
    let folder = workspace::target().join("demo");
    let service = folder.join("spiky");
    if !args.built {
        build(&folder, &service)?;
    }
    if !command::is_root() {
        return command::become_root(["demo", "--built"], &[]);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("cannot handle Ctrl-C and SIGTERM")?;
    }
    let incidents = workspace::short(&folder.join("incidents"));
    if incidents.exists() {
        std::fs::remove_dir_all(&incidents)
            .with_context(|| format!("cannot remove the last demo's {}", incidents.display()))?;
    }
    let incident = spike(&service, &incidents, &interrupted)?;
    incident::show(&incident)
}

fn build(folder: &Path, service: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let source = workspace::root().join("xtask/demo/spiky.c");
    let mut cc = command::of("cc", &["-O2", "-g", "-fno-omit-frame-pointer", "-o"]);
    command::run(cc.arg(service).arg(source)).context("the demo's service is a C program")?;
    let arguments = ["build", "--quiet", "--release", "--package", "holmes-user"];
    command::run(&mut command::of_cargo(&arguments))
}

/// Runs recorder and service until an incident is on disk, and gives its folder. Both are ended,
/// and the cgroup removed, on the way out, whichever way that is.
fn spike(service: &Path, incidents: &Path, interrupted: &AtomicBool) -> Result<PathBuf> {
    // Dropped in reverse: the service first, then the recorder, then the empty cgroup.
    let cgroup = Cgroup::create("demo")?;
    let mut recorder = Recorder::start(&recorder_arguments(&cgroup, incidents))?;
    println!("recorder: watches {}, and nothing else of this host\n", cgroup.path().display());
    recorder.wait_for("recording", PATIENCE, interrupted)?;

    let began = Instant::now();
    let _service = Service::start(service, &cgroup, STEADY, SPIKE)?;
    println!("\nservice: steady for {} s, then it spikes ...\n", STEADY.as_secs());
    let line = recorder.wait_for("incident written", PATIENCE, interrupted)?;
    println!("\nincident on disk {:.1} s after the service began\n", began.elapsed().as_secs_f64());
    recorder.stop();
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    newest(incidents).with_context(|| format!("the recorder said `{line}`"))
}

fn recorder_arguments(cgroup: &Cgroup, incidents: &Path) -> Vec<std::ffi::OsString> {
    // Values are percent of all CPUs (the cgroup has no limit). The service needs a few percent of
    // one CPU while steady and a whole one in its spike: a third of one lies well between.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let min = (33.0 / cpus as f64).max(0.1);
    let mut arguments: Vec<std::ffi::OsString> =
        vec!["--cgroup".into(), cgroup.path().into(), "--dump-dir".into(), incidents.into()];
    let fixed = [
        "--interval",
        "1s",
        "--lookback",
        "10s",
        "--after",
        "5s",
        "--frequency",
        "99",
        "--listen",
        "127.0.0.1:0",
        "--rule",
        "memory=off",
        "--rule",
        "threads=off",
        "--rule",
        "goroutines=off",
        "--rule",
        "leak=off",
        "--rule",
        "psi=off",
        "--rule",
    ];
    arguments.extend(fixed.map(Into::into));
    arguments.push(format!("cpu=min:{min:.1},diff:100,abs:0,cooldown:1m").into());
    arguments
}

/// The newest incident: their names begin with their times.
fn newest(incidents: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(incidents)
        .with_context(|| format!("cannot list {}", incidents.display()))?;
    entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .max()
        .with_context(|| format!("no incident in {}", incidents.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_incident_is_shown_and_unfinished_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["20260101T000000.000Z-cpu-x", "20260102T000000.000Z-cpu-x", ".tmp-2027"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("zzz"), "a file").unwrap();
        let newest = newest(folder.path()).unwrap();
        assert!(newest.ends_with("20260102T000000.000Z-cpu-x"));
    }

    #[test]
    fn no_incident_is_an_error() {
        assert!(newest(tempfile::tempdir().unwrap().path()).is_err());
    }
}
