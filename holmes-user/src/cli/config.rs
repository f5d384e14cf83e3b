//! The configuration file on disk: reads it, at start and again at SIGHUP.
//!
//! Must not: know what is in it (that is `file`).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::file::{self, Problem};
use super::layer::{self, ContradictionError, Layer, Resolved};
use crate::settings::Reloaded;

/// Bytes of a configuration file. A full one has fewer than a thousand.
const MAX_BYTES: u64 = 1 << 20;

/// Why a configuration file is not used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: check that it exists and is readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be one.
    #[error(
        "{} is longer than {MAX_BYTES} bytes: this is no configuration file; give the right one \
         with --config", path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{}", list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What; at least one.
        problems: Vec<Problem>,
    },
    /// Its values do not fit to each other, or to those of the command line.
    #[error("with {}: {source}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Which.
        source: ContradictionError,
    },
}

/// `path:line:column: message`, as compilers write it, so that editors can jump there.
fn list(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<_> =
        problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\n")
}

/// Reads a configuration file.
pub(super) fn read(path: &Path) -> Result<Layer, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(fail)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    file::parse(text).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
}

/// Reads the file again and says what becomes of it.
///
/// The precedence is the one of the start: `arguments`, what the command line said, over the file
/// over the defaults. `running` is what the recorder was started with: what only a restart can
/// change is compared with it.
///
/// # Errors
/// The file is not used; nothing changes then.
pub(super) fn reload(
    path: &Path,
    arguments: &Layer,
    running: &Resolved,
) -> Result<Reloaded, ConfigError> {
    replan(path, read(path)?, arguments, running)
}

fn replan(
    path: &Path,
    file: Layer,
    arguments: &Layer,
    running: &Resolved,
) -> Result<Reloaded, ConfigError> {
    let contradiction = |source| ConfigError::Contradiction { path: path.to_owned(), source };
    let asked_window = arguments.window.or(file.window);
    let wanted =
        arguments.clone().over(file).resolve(running.probes.probe_log).map_err(contradiction)?;
    // The window keeps the length of the start, so an incident has to fit into that one.
    layer::check_window(&wanted.tunables, running.window.span).map_err(contradiction)?;

    let mut needs_restart = Vec::new();
    let mut compare = |key, changed: bool| {
        if changed {
            needs_restart.push(key);
        }
    };
    compare("cgroup, pid or all", wanted.probes.watch != running.probes.watch);
    compare("frequency", wanted.probes.frequency != running.probes.frequency);
    compare("ring_bytes", wanted.probes.ring_bytes != running.probes.ring_bytes);
    compare("unwind_bytes", wanted.probes.unwind_rows != running.probes.unwind_rows);
    compare("memory_interval", wanted.probes.fault_interval != running.probes.fault_interval);
    compare("without", wanted.probes.without != running.probes.without);
    compare("window", asked_window.is_some_and(|window| window != running.window.span));
    compare("window_bytes", wanted.window.max_bytes != running.window.max_bytes);
    compare("window_stacks", wanted.window.max_stacks != running.window.max_stacks);
    let names = (&wanted.names, &running.names);
    compare("debug_dirs", names.0.debug_dirs != names.1.debug_dirs);
    compare("debuginfod or debug_cache", names.0.debuginfod != names.1.debuginfod);
    compare("dump_dir", wanted.dump_dir != running.dump_dir);
    compare("listen", wanted.listen != running.listen);
    Ok(Reloaded { tunables: wanted.tunables, needs_restart })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn again(before: &str, now: &str, arguments: Layer) -> Result<Reloaded, ConfigError> {
        let path = Path::new("holmes.toml");
        let start = parse(path, before).unwrap();
        let running = arguments.clone().over(start).resolve(false).unwrap();
        replan(path, parse(path, now)?, &arguments, &running)
    }

    #[test]
    fn a_reload_takes_the_tunables_and_names_what_needs_a_restart() {
        let reloaded = again(
            "interval = \"5s\"\nfrequency = 49",
            "interval = \"1s\"\nfrequency = 99\ndump_dir = \"/else\"\nlisten = \"off\"",
            Layer::default(),
        )
        .unwrap();
        assert_eq!(reloaded.tunables.interval, Duration::from_secs(1));
        assert_eq!(reloaded.needs_restart, ["frequency", "dump_dir", "listen"]);
    }

    #[test]
    fn the_command_line_still_wins() {
        let arguments = Layer {
            interval: Some(Duration::from_secs(2)),
            frequency: Some(20),
            ..Layer::default()
        };
        let reloaded = again("", "interval = \"1s\"\nfrequency = 99", arguments).unwrap();
        assert_eq!(reloaded.tunables.interval, Duration::from_secs(2));
        assert_eq!(reloaded.needs_restart, [""; 0]);
    }

    #[test]
    fn an_unchanged_file_changes_nothing() {
        let text = "lookback = \"5m\"\n[rules.cpu]\nmin = 20";
        let reloaded = again(text, text, Layer::default()).unwrap();
        assert_eq!(
            reloaded.tunables,
            parse(Path::new("x"), text).unwrap().resolve(false).unwrap().tunables
        );
        assert_eq!(reloaded.needs_restart, [""; 0]);
    }

    #[test]
    fn an_incident_must_fit_into_the_running_window() {
        let error = again("", "lookback = \"10m\"", Layer::default()).unwrap_err();
        assert!(error.to_string().starts_with("with holmes.toml: lookback (10m)"), "{error}");
        let shorter = again("lookback = \"10m\"", "lookback = \"1m\"", Layer::default()).unwrap();
        assert_eq!(shorter.needs_restart, [""; 0]);
    }

    #[test]
    fn errors_name_the_file_and_each_line() {
        let error = again("", "intervall = 1\nafter = 3", Layer::default()).unwrap_err();
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("holmes.toml:1:1: unknown key `intervall`"), "{text}");
        assert!(lines[1].starts_with("holmes.toml:2:9: `after = 3` has no unit"), "{text}");
    }

    #[test]
    fn a_missing_or_endless_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(&folder.path().join("missing.toml")).unwrap_err();
        assert!(missing.to_string().contains("missing.toml"), "{missing}");
        let endless = folder.path().join("endless.toml");
        std::fs::write(&endless, "#".repeat(MAX_BYTES as usize + 10)).unwrap();
        assert!(matches!(read(&endless), Err(ConfigError::TooLong { .. })));
    }
}
