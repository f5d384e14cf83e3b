//! One run of the benchmark: what it measures, where it may write, and whether it was told to end.
//!
//! Must not: measure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command;

/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(20);

/// What every measurement is given.
#[derive(Debug)]
pub struct Session {
    /// Fewer runs, shorter ones.
    quick: bool,
    recorder: PathBuf,
    folder: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Session {
    /// Begins: from now on Ctrl-C and SIGTERM are noticed by [`Session::check`].
    ///
    /// # Errors
    /// When they cannot be handled, or the folder cannot be made.
    pub fn begin(quick: bool, recorder: PathBuf, folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("cannot handle Ctrl-C and SIGTERM")?;
        }
        Ok(Self { quick, recorder, folder, interrupted })
    }

    /// The one value for a whole run, the other for a quick one.
    pub fn scale<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// The recorder's program.
    pub fn recorder(&self) -> &Path {
        &self.recorder
    }

    /// A place below the folder for what a measurement writes.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty folder of this name.
    ///
    /// # Errors
    /// When what is in it cannot be removed.
    pub fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.file(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// Whether the run goes on.
    ///
    /// # Errors
    /// When it was interrupted.
    pub fn check(&self) -> Result<()> {
        if self.is_interrupted() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Whether Ctrl-C or SIGTERM came.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Waits so long.
    ///
    /// # Errors
    /// When it was interrupted.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(POLL));
        }
    }

    /// Builds a C program of `tests/workloads`, under another name where `flags` differ.
    ///
    /// # Errors
    /// When there is no compiler, or it refuses.
    pub fn c_program(&self, source: &str, flags: &[&str]) -> Result<PathBuf> {
        let program = self.file(&format!("{source}{}", flags.concat()));
        let mut cc = command::of("cc", &["-std=gnu11", "-O2", "-g", "-pthread"]);
        cc.args(flags).arg("-o").arg(&program).arg(workload(&format!("{source}.c")));
        command::run(&mut cc).context("the workloads are C programs")?;
        Ok(program)
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// A file of `tests/workloads`.
pub fn workload(name: &str) -> PathBuf {
    crate::workspace::root().join("tests/workloads").join(name)
}

/// A command of this program, with these arguments.
pub fn program(path: &Path, arguments: &[&str]) -> Command {
    command::of(path, arguments)
}
