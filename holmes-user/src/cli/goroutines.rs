//! The flags of `goroutines`, and what they mean together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::UsageError;
use super::arguments::path;
use super::output::{OutputError, Surroundings, by_ending};
use super::values;
use crate::settings::{GoroutineFormat, GoroutineSettings, RecordFormat};

/// Shown below the help of the command.
pub(super) const EXAMPLES: &str = "\
Examples:
  sudo holmes-ebpf goroutines -p 4711                   what they wait for, most frequent first
  sudo holmes-ebpf goroutines -p 4711 --twice 1s        and which of them do not move
  sudo holmes-ebpf goroutines -p 4711 -o g.pb.gz && go tool pprof -top g.pb.gz
  sudo holmes-ebpf goroutines -p 4711 --format debug2 > dump.txt
  sudo holmes-ebpf goroutines -p 4711 --heap -o heap.pb.gz   what its own heap profile says";

#[derive(Debug, Args)]
pub(super) struct GoroutineArguments {
    /// The process
    #[arg(short, long, value_parser = |text: &str| values::PID.parse(text))]
    pub pid: u32,
    /// Where to: a file, or - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", value_parser = path)]
    pub output: PathBuf,
    /// The format [default: pprof for a FILE.pb.gz or FILE.pprof, otherwise text]
    #[arg(long)]
    pub format: Option<Format>,
    /// Look a second time after this long, and tell which goroutines have not moved since
    #[arg(long, value_name = "DURATION",
        value_parser = |text: &str| values::TWICE.parse(text))]
    pub twice: Option<Duration>,
    /// Read the heap profile that the program keeps of itself instead: one that links runtime/pprof
    /// or net/http/pprof does. What it has allocated since it began and what is in use, as of its last
    /// collections; as text like Go's /debug/pprof/heap?debug=1
    #[arg(long, conflicts_with = "twice")]
    pub heap: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// For a person: by state, lock and stack, most frequent first
    Text,
    /// As Go's /debug/pprof/goroutine?debug=1: by stack
    Debug1,
    /// As Go's /debug/pprof/goroutine?debug=2: one by one
    Debug2,
    /// gzip-compressed pprof, for go tool pprof, Pyroscope, Parca, Perfetto
    Pprof,
}

impl From<Format> for GoroutineFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Debug1 => Self::Debug1,
            Format::Debug2 => Self::Debug2,
            Format::Pprof => Self::Pprof,
        }
    }
}

/// The settings that the flags ask for.
pub(super) fn settings(
    arguments: &GoroutineArguments,
    surroundings: &Surroundings,
) -> Result<GoroutineSettings, UsageError> {
    let format = match arguments.format {
        Some(format) => format.into(),
        None if by_ending(&arguments.output) == Some(RecordFormat::Pprof) => GoroutineFormat::Pprof,
        None => GoroutineFormat::Text,
    };
    let is_terminal = arguments.output == Path::new("-") && surroundings.stdout_is_terminal;
    if format == GoroutineFormat::Pprof && is_terminal {
        return Err(OutputError::GoroutineTerminal.into());
    }
    if arguments.heap && format == GoroutineFormat::Debug2 {
        return Err(OutputError::HeapFormat.into());
    }
    Ok(GoroutineSettings {
        pid: arguments.pid,
        output: arguments.output.clone(),
        format,
        twice: arguments.twice,
        heap: arguments.heap,
        quiet: arguments.quiet,
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::cli::{Command, parse_from};

    fn parse(line: &str, stdout_is_terminal: bool) -> Result<GoroutineSettings, UsageError> {
        let surroundings = Surroundings { stdout_is_terminal, now: SystemTime::UNIX_EPOCH };
        match parse_from(line.split(' '), &surroundings)? {
            Command::Goroutines(settings) => Ok(settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_format_by_flag_and_by_name() {
        use GoroutineFormat::{Debug1, Debug2, Pprof, Text};
        for (rest, format) in [
            ("", Text),
            (" -o out.pb.gz", Pprof),
            (" -o out.pprof", Pprof),
            (" -o out.txt", Text),
            (" -o out.pb.gz --format debug2", Debug2),
            (" --format debug1", Debug1),
        ] {
            let settings = parse(&format!("holmes-ebpf goroutines -p 7{rest}"), true).unwrap();
            assert_eq!((settings.pid, settings.format), (7, format), "{rest}");
        }
        let twice = parse("holmes-ebpf goroutines -p 7 --twice 500ms", true).unwrap().twice;
        assert_eq!(twice, Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_is_refused() {
        for line in ["goroutines", "goroutines -p 0", "goroutines -p 7 --twice 1ns"] {
            let error = parse(&format!("holmes-ebpf {line}"), false).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        for line in ["--heap --twice 1s", "--heap --format debug2"] {
            let error = parse(&format!("holmes-ebpf goroutines -p 7 {line}"), false).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert!(parse("holmes-ebpf goroutines -p 7 --heap --format debug1", true).unwrap().heap);
        let error = parse("holmes-ebpf goroutines -p 7 --format pprof", true).unwrap_err();
        assert!(error.to_string().contains("--format text"), "{error}");
        assert!(parse("holmes-ebpf goroutines -p 7 --format pprof", false).is_ok());
    }
}
