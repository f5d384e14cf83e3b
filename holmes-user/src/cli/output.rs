//! Where `record` writes, and in which format.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use crate::settings::RecordFormat;

/// Endings of file names, and their format.
const ENDINGS: [(&str, RecordFormat); 7] = [
    (".pb.gz", RecordFormat::Pprof),
    (".pprof", RecordFormat::Pprof),
    (".folded", RecordFormat::Folded),
    (".perfetto-trace", RecordFormat::Perfetto),
    (".perfetto-trace.gz", RecordFormat::Perfetto),
    (".json", RecordFormat::Chrome),
    (".json.gz", RecordFormat::Chrome),
];

/// Why an output is refused.
#[derive(Debug, Error, PartialEq)]
pub enum OutputError {
    /// The name does not tell the format.
    #[error(
        "cannot tell the format of `{}` from its ending: use .pb.gz (or .pprof), .folded, \
         .perfetto-trace or .json, or say --format pprof, folded, perfetto or chrome", path.display()
    )]
    UnknownEnding {
        /// The file.
        path: PathBuf,
    },
    /// Binary data on a terminal.
    #[error(
        "this format is binary and standard output is a terminal: say --format folded, or \
         redirect it, or name a file with -o"
    )]
    Terminal,
    /// The same of goroutines.
    #[error(
        "a pprof profile is binary and standard output is a terminal: say --format text, or \
         redirect it, or name a file with -o"
    )]
    GoroutineTerminal,
    /// A heap profile does not tell goroutines one by one.
    #[error("a heap profile has no format debug2: say --format debug1 or pprof")]
    HeapFormat,
}

/// What the program stands in when it starts: the inputs that are not text.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// The wall clock.
    pub now: SystemTime,
}

/// Decides where to write and how. `--format` wins over the ending.
pub(super) fn choose(
    output: Option<&Path>,
    format: Option<RecordFormat>,
    surroundings: &Surroundings,
) -> Result<(PathBuf, RecordFormat), OutputError> {
    let Some(path) = output else {
        let format = format.unwrap_or(RecordFormat::Pprof);
        return Ok((default_name(format, surroundings.now), format));
    };
    if path == Path::new("-") {
        let format = format.unwrap_or(RecordFormat::Pprof);
        let is_binary = matches!(format, RecordFormat::Pprof | RecordFormat::Perfetto);
        if is_binary && surroundings.stdout_is_terminal {
            return Err(OutputError::Terminal);
        }
        return Ok((path.to_owned(), format));
    }
    let format = format
        .or_else(|| by_ending(path))
        .ok_or_else(|| OutputError::UnknownEnding { path: path.to_owned() })?;
    Ok((path.to_owned(), format))
}

/// The format that a file's name ends in.
pub(super) fn by_ending(path: &Path) -> Option<RecordFormat> {
    let name = path.file_name()?.to_string_lossy();
    ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
}

/// `holmes-20261121T025700Z.pb.gz`: never the same name twice in a row, sorted by time, and
/// recognisable, as perf's and py-spy's users expect of a recorder that was given no name.
fn default_name(format: RecordFormat, now: SystemTime) -> PathBuf {
    let ending = match format {
        RecordFormat::Pprof => ".pb.gz",
        RecordFormat::Folded => ".folded",
        RecordFormat::Perfetto => ".perfetto-trace",
        RecordFormat::Chrome => ".json",
    };
    // A clock outside the years that RFC 3339 can write is set to 1970 rather than a panic.
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let year_10000 = std::time::Duration::from_secs(253_402_300_800);
    let shown = if since < year_10000 { now } else { SystemTime::UNIX_EPOCH };
    let shown = shown.max(SystemTime::UNIX_EPOCH);
    let time = humantime::format_rfc3339_seconds(shown).to_string().replace(['-', ':'], "");
    PathBuf::from(format!("holmes-{time}{ending}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(stdout_is_terminal: bool) -> Surroundings {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_229_820);
        Surroundings { stdout_is_terminal, now }
    }

    #[test]
    fn the_ending_tells_the_format_and_the_flag_wins() {
        use RecordFormat::{Chrome, Folded, Perfetto, Pprof};
        for (path, flag, expected) in [
            ("out.pb.gz", None, Some(Pprof)),
            ("dir.folded/out.pprof", None, Some(Pprof)),
            ("out.folded", None, Some(Folded)),
            ("out.folded", Some(Pprof), Some(Pprof)),
            ("out.txt", Some(Folded), Some(Folded)),
            ("out.perfetto-trace", None, Some(Perfetto)),
            ("out.perfetto-trace.gz", None, Some(Perfetto)),
            ("out.json", None, Some(Chrome)),
            ("out.json.gz", None, Some(Chrome)),
            ("out.txt", None, None),
            ("out.gz", None, None),
            ("-", None, Some(Pprof)),
        ] {
            let chosen = choose(Some(Path::new(path)), flag, &at(false));
            assert_eq!(chosen.ok().map(|(_, format)| format), expected, "{path} {flag:?}");
        }
    }

    #[test]
    fn a_terminal_gets_no_binary() {
        let dash = Some(Path::new("-"));
        assert_eq!(choose(dash, None, &at(true)), Err(OutputError::Terminal));
        assert_eq!(
            choose(dash, Some(RecordFormat::Perfetto), &at(true)),
            Err(OutputError::Terminal)
        );
        assert!(choose(dash, Some(RecordFormat::Folded), &at(true)).is_ok());
        assert!(choose(dash, Some(RecordFormat::Chrome), &at(true)).is_ok());
    }

    #[test]
    fn without_a_name_the_time_makes_one() {
        let (name, format) = choose(None, None, &at(true)).unwrap();
        assert_eq!(name, Path::new("holmes-20261121T025700Z.pb.gz"));
        assert_eq!(format, RecordFormat::Pprof);
        let (name, _) = choose(None, Some(RecordFormat::Folded), &at(true)).unwrap();
        assert_eq!(name, Path::new("holmes-20261121T025700Z.folded"));
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(default_name(RecordFormat::Pprof, far).to_string_lossy().contains("1970"));
    }
}
