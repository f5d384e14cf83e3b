//! Cli: the command line and the configuration file become [`settings`](crate::settings).
//!
//! # Layout
//! - `arguments`, `record_arguments`: the flags as typed, and the help;
//! - `values`, `rule_text`: the text of single values and of rules, shared by flags and file;
//! - `file`: the text of the configuration file; `config`: that file on disk, and its reload;
//! - `layer`: what one source says; the command line over the file over the defaults;
//! - `goroutines`: the flags of that command;
//! - `output`: where `record` writes, and in which format;
//! - [`check`]: prints what the kernel allows.
//!
//! Must not: start anything, or hold running state.

mod arguments;
mod config;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod goroutines;
mod layer;
mod output;
mod record_arguments;
mod rule_text;
mod suggest;
mod values;

pub mod check;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{CommandFactory, Parser};
pub use clap_complete::Shell;
use holmes_common::limits::{
    DEFAULT_FAULT_INTERVAL, DEFAULT_RING_BYTES, DEFAULT_ROWS, MAX_TARGETS,
};
use thiserror::Error;

use self::arguments::{Arguments, RecorderArguments, SubArguments, WatchArguments};
pub use self::config::ConfigError;
pub use self::file::Problem;
pub use self::layer::ContradictionError;
pub use self::output::{OutputError, Surroundings};
use self::record_arguments::RecordArguments;
use crate::kernel::OptionalProbe;
use crate::settings::{
    GoroutineSettings, NameSettings, ProbeSettings, RecordEvent, RecordSettings, RecorderSettings,
    Reload, ReplaySettings, Watch,
};

/// What the user wants.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// The recorder.
    Run(Box<RecorderSettings>),
    /// One window to a file.
    Record(RecordSettings),
    /// The goroutines of a process.
    Goroutines(GoroutineSettings),
    /// A recording through the rules.
    Replay(ReplaySettings),
    /// What the host allows.
    Check {
        /// Where incidents would go.
        dump_dir: PathBuf,
    },
    /// The naming process of a recorder.
    SymbolizeWorker,
    /// A completion script.
    Completions(Shell),
}

/// Why the command line, or the file it names, cannot be followed.
#[derive(Debug, Error)]
pub enum UsageError {
    /// A flag or its value is wrong; or help or version was asked for.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Values do not fit together.
    #[error(transparent)]
    Contradiction(#[from] ContradictionError),
    /// `record` cannot write there.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Allocations of more than one process.
    #[error(
        "--allocations records one process: name it with -p PID, and record others one after the \
         other"
    )]
    AllocationsTarget,
    /// Allocations have no moments.
    #[error(
        "allocations are summed up, not drawn one after the other: leave out --allocations, or say --format \
         pprof or folded"
    )]
    AllocationsTimeline,
    /// More targets than the probes hold.
    #[error("{given} targets are too many: give at most {MAX_TARGETS}, or a cgroup above them")]
    TooManyTargets {
        /// How many.
        given: usize,
    },
}

impl UsageError {
    /// 2, or 0 where help or version was asked for.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(error) if !error.use_stderr() => 0,
            _ => 2,
        }
    }

    /// Prints the error to standard error; or the help that was asked for to standard output.
    pub fn print(&self) {
        // There is nowhere left to report that the terminal or pipe is gone.
        let _ = match self {
            Self::Arguments(error) => error.print(),
            other => writeln!(
                io::stderr(),
                "{}\n\nFor more information, try 'holmes-ebpf --help'.",
                describe(other)
            ),
        };
    }
}

/// An error with its causes, one a line.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("error: {error}");
    let mut shown = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some errors repeat their cause in their own message.
        if !shown.contains(&message) {
            text.push_str("\n  because: ");
            text.push_str(&message);
        }
        shown = message;
        cause = error.source();
    }
    text
}

/// Reads the program's own command line, and the configuration file it names.
///
/// # Errors
/// See [`UsageError`]; its `print` and `exit_code` are what is left to do.
pub fn parse() -> Result<Command, UsageError> {
    let surroundings =
        Surroundings { stdout_is_terminal: io::stdout().is_terminal(), now: SystemTime::now() };
    parse_from(std::env::args_os(), &surroundings)
}

/// As [`parse`], of any arguments; the first is the program's name.
///
/// # Errors
/// As [`parse`].
pub fn parse_from(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    surroundings: &Surroundings,
) -> Result<Command, UsageError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    Ok(match arguments.command {
        None => Command::Run(Box::new(recorder(&arguments.recorder)?)),
        Some(SubArguments::Record(arguments)) => Command::Record(record(&arguments, surroundings)?),
        Some(SubArguments::Goroutines(arguments)) => {
            Command::Goroutines(goroutines::settings(&arguments, surroundings)?)
        }
        Some(SubArguments::Replay(arguments)) => Command::Replay(ReplaySettings {
            input: arguments.file,
            dump_dir: arguments.dump_dir,
            rules: arguments.rule,
            quiet: arguments.quiet,
        }),
        Some(SubArguments::Check(arguments)) => Command::Check { dump_dir: arguments.dump_dir },
        Some(SubArguments::SymbolizeWorker) => Command::SymbolizeWorker,
        Some(SubArguments::Completions { shell }) => Command::Completions(shell),
    })
}

fn recorder(arguments: &RecorderArguments) -> Result<RecorderSettings, UsageError> {
    check_targets(&arguments.watch)?;
    let layer = arguments.layer();
    let resolved = match &arguments.config {
        None => layer.clone().resolve(arguments.probe_log)?,
        Some(path) => layer
            .clone()
            .over(config::read(path)?)
            .resolve(arguments.probe_log)
            .map_err(|source| ConfigError::Contradiction { path: path.clone(), source })?,
    };
    let reload = arguments.config.clone().map(|path| {
        let running = resolved.clone();
        Reload::new(path.clone(), move || {
            config::reload(&path, &layer, &running)
                .map_err(|error| describe(&error).trim_start_matches("error: ").to_owned())
        })
    });
    Ok(RecorderSettings {
        probes: resolved.probes,
        window: resolved.window,
        names: resolved.names,
        tunables: resolved.tunables,
        dump_dir: resolved.dump_dir,
        listen: resolved.listen,
        record_input: arguments.record_input.clone(),
        quiet: arguments.quiet,
        reload,
    })
}

/// The probes of which `record` shows nothing: the target is not to pay for them.
fn unshown(event: RecordEvent) -> Vec<OptionalProbe> {
    let mut without = vec![OptionalProbe::Memory, OptionalProbe::Faults, OptionalProbe::Oom];
    if event == RecordEvent::Cpu {
        without.push(OptionalProbe::Waits);
    }
    without
}

fn record(
    arguments: &RecordArguments,
    surroundings: &Surroundings,
) -> Result<RecordSettings, UsageError> {
    check_targets(&arguments.watch)?;
    let watch = arguments.watch.watch().unwrap_or(Watch::Host);
    let one_process = matches!(&watch, Watch::Processes(pids) if pids.len() == 1);
    if arguments.allocations && !one_process {
        return Err(UsageError::AllocationsTarget);
    }
    let format = arguments.format.map(Into::into);
    let (output, format) = output::choose(arguments.output.as_deref(), format, surroundings)?;
    if arguments.allocations && format.is_timeline() {
        return Err(UsageError::AllocationsTimeline);
    }
    let event = if format.is_timeline() { RecordEvent::Timeline } else { arguments.event.into() };
    Ok(RecordSettings {
        probes: ProbeSettings {
            watch,
            frequency: arguments.frequency,
            ring_bytes: arguments.ring_bytes.unwrap_or(DEFAULT_RING_BYTES),
            unwind_rows: arguments.unwind_rows.unwrap_or(DEFAULT_ROWS),
            without: unshown(event),
            fault_interval: DEFAULT_FAULT_INTERVAL,
            copy_stacks: arguments.stack_copies.is_some(),
            allocation_interval: arguments.allocations.then_some(arguments.allocation_interval),
            probe_log: false,
        },
        names: record_names(&arguments.debug_dir),
        event,
        duration: arguments.duration,
        output,
        format,
        stack_copies: arguments.stack_copies.clone(),
        quiet: arguments.quiet,
    })
}

/// `record` ends before a server has answered: it has folders only.
fn record_names(debug_dirs: &[PathBuf]) -> NameSettings {
    let mut names = NameSettings::default();
    if !debug_dirs.is_empty() {
        names.debug_dirs = debug_dirs.to_vec();
    }
    names
}

fn check_targets(watch: &WatchArguments) -> Result<(), UsageError> {
    let given = watch.cgroup.len() + watch.pid.len();
    if given > MAX_TARGETS as usize {
        return Err(UsageError::TooManyTargets { given });
    }
    Ok(())
}

/// Writes the completion script of a shell.
///
/// # Errors
/// `out` failed.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // Into memory first: the generator panics where a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "holmes-ebpf", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests;
