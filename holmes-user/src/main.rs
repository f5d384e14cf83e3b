//! The entry point of `holmes-ebpf`: reads the command line, sets up the log, and turns the
//! outcome into an exit code: 0, 1 for a failure, 2 for wrong usage.
//!
//! Must not: decide anything else.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use holmes_user::cli::{self, Command};
use holmes_user::kernel::capabilities::Held;
use holmes_user::kernel::features::{Answers, Roots, inspect};
use holmes_user::pipeline;
use holmes_user::symbolize::worker;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    match dispatch(command) {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is closed, the exit code is all that is left to say.
            let _ = writeln!(io::stderr(), "{}", cli::describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(settings) => {
            log(settings.quiet, settings.probes.probe_log);
            pipeline::recorder(*settings)?;
        }
        Command::Record(settings) => {
            log(settings.quiet, settings.probes.probe_log);
            pipeline::record(settings)?;
        }
        Command::Goroutines(settings) => {
            log(settings.quiet, false);
            pipeline::goroutines(&settings)?;
        }
        Command::Replay(settings) => {
            log(settings.quiet, false);
            pipeline::replay(settings)?;
        }
        Command::Check { dump_dir } => return check(&dump_dir),
        Command::SymbolizeWorker => worker::run()?,
        Command::Completions(shell) => good_pipe(cli::completions(shell, &mut io::stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(dump_dir: &Path) -> anyhow::Result<ExitCode> {
    let findings = inspect(&Roots::default(), &Held::read()?, &Answers::ask(), dump_dir);
    let works = findings.iter().all(|finding| !finding.is_fatal());
    good_pipe(cli::check::run(&findings, &mut io::stdout(), colour(&io::stdout())).map(drop))?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A reader that has seen enough, as `head`, is no failure.
fn good_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Colours are for people at a terminal who did not refuse them (no-color.org).
fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends the log to standard error, plain, without the time: a terminal's reader knows it, and
/// journald and container runtimes add their own.
fn log(quiet: bool, probe_log: bool) {
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::INFO };
    let probes = if probe_log { LevelFilter::TRACE } else { level };
    let output = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colour(&io::stderr()))
        .with_target(false)
        .without_time();
    let levels = Targets::new().with_default(level).with_target("holmes_probes", probes);
    tracing_subscriber::registry().with(output).with(levels).init();
}
