//! `cargo xtask fuzz [TARGET...] [--seconds N]`: builds the fuzz targets of `tests/fuzz` and runs
//! them from their seeds.
//!
//! - [`build`]: the compiler's flags, and where the programs are;
//! - [`outcome`]: what libFuzzer said of a run.
//!
//! What a run finds stays in `target/fuzz`: the corpus, with which the next run goes on, logs, and
//! the inputs that broke a parser. Such an input, fixed, belongs into `tests/fuzz/seeds`: a unit test
//! of the recorder tries each of them.
//!
//! Must not: need a nightly compiler or cargo-fuzz.

mod build;
mod outcome;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::{command, workspace};
use outcome::Outcome;

/// Bytes of an input at most: the largest seed fits, and each byte is tried more often.
const MAX_INPUT_BYTES: u32 = 16 << 10;
/// Seconds for one input. The slowest honest one takes milliseconds.
const MAX_SECONDS: u32 = 10;
/// Memory of a target, in MiB: no bound of a parser comes near it.
const MAX_MEMORY_MIB: u32 = 2048;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which ones; all if none is named.
    targets: Vec<String>,
    /// How long each runs; 0 tries the seeds and the corpus only.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many run at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print the targets' names and stop.
    #[arg(long)]
    list: bool,
}

/// Builds and runs.
///
/// # Errors
/// When a target is not known, cannot be built, or breaks.
pub fn run(args: &Args) -> Result<()> {
    let known = known()?;
    if args.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    if let Some(unknown) = chosen.iter().find(|name| !known.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", known.join(", "));
    }
    build::build(chosen)?;
    println!("{}", Outcome::HEAD);
    let queue = Mutex::new(chosen.iter().map(String::as_str).collect::<VecDeque<_>>());
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.clamp(1, chosen.len()) {
            scope.spawn(|| {
                // Not held while a target runs.
                while let Some(name) = take(&queue) {
                    match one(name, args.seconds) {
                        Ok(outcome) => println!("{outcome}"),
                        Err(error) => add(&broken, format!("{error:#}")),
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !broken.is_empty() {
        bail!("{} of {} targets broke:\n{}", broken.len(), chosen.len(), broken.join("\n"));
    }
    Ok(())
}

fn take<'a>(queue: &Mutex<VecDeque<&'a str>>) -> Option<&'a str> {
    queue.lock().ok()?.pop_front()
}

fn add(list: &Mutex<Vec<String>>, text: String) {
    if let Ok(mut list) = list.lock() {
        list.push(text);
    }
}

/// The targets, as their manifest names them.
fn known() -> Result<Vec<String>> {
    let manifest: toml::Table = fs::read_to_string(build::manifest())
        .context("cannot read tests/fuzz/Cargo.toml")?
        .parse()?;
    let programs = manifest.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
    let names = programs.filter_map(|program| program.get("name")?.as_str().map(str::to_owned));
    Ok(names.collect())
}

/// Runs one target, with what it says in a log.
fn one(name: &str, seconds: u32) -> Result<Outcome> {
    let folder = |kind: &str| -> Result<PathBuf> {
        let folder = build::folder().join(kind).join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", workspace::short(&folder).display()))?;
        Ok(folder)
    };
    let (corpus, found) = (folder("corpus")?, folder("found")?);
    let log = folder("log")?.join("last.txt");
    let seeds = workspace::root().join("tests/fuzz/seeds").join(name);
    let mut target = command::of(build::program(name), &arguments(seconds, &found));
    target.arg(corpus).arg(seeds);
    let written = File::create(&log).context("cannot write a log")?;
    target.stdout(written.try_clone()?).stderr(written);
    let status = target.status().with_context(|| format!("cannot start the target `{name}`"))?;
    // Panics print what they like; lossy, so that the log of a crash is not lost.
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!(
            "{name}: {status}; what broke it is in {}, what it said in {}",
            workspace::short(&found).display(),
            workspace::short(&log).display()
        );
    }
    Outcome::of(name, &said)
}

fn arguments(seconds: u32, found: &Path) -> Vec<String> {
    let time =
        if seconds == 0 { "-runs=0".to_owned() } else { format!("-max_total_time={seconds}") };
    vec![
        time,
        format!("-max_len={MAX_INPUT_BYTES}"),
        format!("-timeout={MAX_SECONDS}"),
        format!("-rss_limit_mb={MAX_MEMORY_MIB}"),
        "-print_final_stats=1".to_owned(),
        // A folder only with the slash.
        format!("-artifact_prefix={}/", found.display()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds_and_a_file() {
        let folder = workspace::root().join("tests/fuzz");
        let known = known().unwrap();
        assert!(known.len() > 10, "{known:?}");
        for name in &known {
            assert!(folder.join(format!("targets/{name}.rs")).is_file(), "{name}");
            assert!(fs::read_dir(folder.join("seeds").join(name)).unwrap().count() > 0, "{name}");
        }
        let files = fs::read_dir(folder.join("targets")).unwrap().count();
        assert_eq!(files, known.len(), "a file without an entry in the manifest is never run");
    }

    #[test]
    fn seeds_alone_are_a_run_without_time() {
        assert!(arguments(0, Path::new("x")).contains(&"-runs=0".to_owned()));
        assert!(arguments(5, Path::new("x")).contains(&"-max_total_time=5".to_owned()));
    }
}
