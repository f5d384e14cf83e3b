//! Where the kernel's early warnings come from: `memory.pressure` with a trigger, and
//! `memory.events`. Both wake whoever polls them for `POLLPRI`; nothing is read in between.
//!
//! A trigger belongs to the descriptor that it was written to, and ends with it: the cgroup stays as
//! it was.
//!
//! Formats: Documentation/accounting/psi.rst, admin-guide/cgroup-v2.rst (`memory.events`).
//!
//! Must not: wait (the pipeline does), or decide anything.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sources::{keyed, number};
use super::{Target, Warning, cgroup_memory};
use crate::kernel::cgroupfs::Hierarchy;

/// The most that is read of either file, in bytes: ten times what they hold.
const MAX_TEXT: u64 = 4096;

/// Where a target's warnings are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarningPlace {
    /// Whose.
    pub target: Target,
    /// Its file of memory pressure.
    pub pressure: PathBuf,
    /// The directory of its cgroup; `None` for the host, which has no events.
    pub cgroup: Option<PathBuf>,
}

/// A file that the kernel raises when it has a warning.
#[derive(Debug)]
pub struct WarningFile {
    file: File,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Pressure,
    Events { directory: PathBuf, counted: Counted },
}

/// What `memory.events` counts, of which something follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    high: u64,
    max: u64,
    kills: u64,
}

/// What a file was raised for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Raised {
    /// What there is to warn of.
    pub warning: Option<Warning>,
    /// Processes of the cgroup that the kernel has killed because memory ran out.
    pub kills: u64,
}

impl WarningFile {
    /// Opens a file of pressure. It is raised, at most once in each `window`, when some task has
    /// waited for `stall` in the window before.
    ///
    /// # Errors
    /// The file does not exist, as without PSI in the kernel; cannot be written, as in a read-only
    /// mount; or the kernel refuses the trigger. Without `CAP_SYS_RESOURCE` it takes only windows
    /// of whole multiples of two seconds.
    pub fn pressure(path: &Path, stall: Duration, window: Duration) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        // The kernel replaces the last byte by the end of the text.
        let trigger = format!("some {} {}\0", stall.as_micros(), window.as_micros());
        file.write_all(trigger.as_bytes())?;
        Ok(Self { file, kind: Kind::Pressure })
    }

    /// Opens `memory.events` of a cgroup v2. It is raised whenever one of its counters grows.
    ///
    /// # Errors
    /// The file does not exist, as without the memory controller.
    pub fn events(directory: &Path) -> io::Result<Self> {
        let mut file = File::open(directory.join("memory.events"))?;
        let counted = counts(&text(&mut file)?)?;
        Ok(Self { file, kind: Kind::Events { directory: directory.to_owned(), counted } })
    }

    /// What has happened since the last time. To be asked each time that the file was raised,
    /// or it is not raised again.
    ///
    /// # Errors
    /// The cgroup is gone, or the file has another form.
    pub fn take(&mut self) -> io::Result<Raised> {
        let text = text(&mut self.file)?;
        match &mut self.kind {
            Kind::Pressure => {
                let some_avg10 = some_avg10(&text).ok_or(ErrorKind::InvalidData)?;
                let warning = Some(Warning::Pressure { some_avg10 });
                Ok(Raised { warning, ..Raised::default() })
            }
            Kind::Events { directory, counted } => {
                let now = counts(&text)?;
                let before = std::mem::replace(counted, now);
                let grown =
                    (now.high.saturating_sub(before.high), now.max.saturating_sub(before.max));
                let warning = match grown {
                    (0, 0) => None,
                    // Who is at the maximum is above the high mark, too.
                    (events, 0) => held_percent(directory, "memory.high")
                        .map(|held_percent| Warning::MemoryHigh { events, held_percent }),
                    (_, events) => held_percent(directory, "memory.max")
                        .map(|held_percent| Warning::MemoryMax { events, held_percent }),
                };
                Ok(Raised { warning, kills: now.kills.saturating_sub(before.kills) })
            }
        }
    }
}

impl AsRawFd for WarningFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// The whole text, from the beginning: what has been read is read again.
fn text(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.take(MAX_TEXT).read_to_string(&mut text)?;
    Ok(text)
}

/// The counters of `memory.events`.
fn counts(text: &str) -> io::Result<Counted> {
    let count = |key| keyed(text, key).ok_or(ErrorKind::InvalidData);
    Ok(Counted { high: count("high")?, max: count("max")?, kills: count("oom_kill")? })
}

/// The share of the last ten seconds in the line `some avg10=1.23 avg60=...`, percent.
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    average.parse().ok().filter(|average: &f64| average.is_finite())
}

/// What of a limit is in use and cannot be taken back; `None` where there is no such limit (any
/// more).
fn held_percent(directory: &Path, limit: &str) -> Option<f64> {
    let limit = number::<u64>(&directory.join(limit)).filter(|limit| *limit > 0)?;
    let memory = cgroup_memory::in_directory(Hierarchy::Unified, directory)?;
    Some(100.0 * memory.held as f64 / limit as f64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const EVENTS: &str = "low 0\nhigh HIGH\nmax MAX\noom 0\noom_kill 0\noom_group_kill 0\n";

    struct Cgroup(tempfile::TempDir);

    impl Cgroup {
        /// 80 bytes of memory, of which 20 are of files.
        fn new() -> Self {
            let cgroup = Self(tempfile::tempdir().unwrap());
            cgroup.write("memory.current", "80\n");
            cgroup.write("memory.stat", "anon 60\ninactive_file 5\nactive_file 15\n");
            cgroup.write("memory.high", "75\n");
            cgroup.write("memory.max", "100\n");
            cgroup.count(3, 4);
            cgroup
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).unwrap();
        }

        fn count(&self, high: u64, max: u64) {
            let text = EVENTS.replace("HIGH", &high.to_string());
            self.write("memory.events", &text.replace("MAX", &max.to_string()));
        }
    }

    #[test]
    fn events_are_those_since_the_last_time() {
        let cgroup = Cgroup::new();
        let mut events = WarningFile::events(cgroup.0.path()).unwrap();
        assert_eq!(events.take().unwrap(), Raised::default());
        cgroup.count(5, 4);
        let high = Warning::MemoryHigh { events: 2, held_percent: 80.0 };
        assert_eq!(events.take().unwrap().warning, Some(high));
        cgroup.count(6, 5);
        let max = Warning::MemoryMax { events: 1, held_percent: 60.0 };
        assert_eq!(events.take().unwrap().warning, Some(max));
        assert_eq!(events.take().unwrap(), Raised::default());
    }

    #[test]
    fn kills_are_those_since_the_last_time() {
        let cgroup = Cgroup::new();
        let mut events = WarningFile::events(cgroup.0.path()).unwrap();
        cgroup.write("memory.events", &EVENTS.replace("HIGH", "3").replace("MAX", "4"));
        assert_eq!(events.take().unwrap().kills, 0);
        let text = EVENTS.replace("HIGH", "3").replace("MAX", "5").replace("kill 0", "kill 2");
        cgroup.write("memory.events", &text);
        let raised = events.take().unwrap();
        assert_eq!((raised.kills, raised.warning.is_some()), (2, true));
        assert_eq!(events.take().unwrap(), Raised::default());
    }

    #[test]
    fn an_event_of_a_limit_that_is_gone_is_none() {
        let cgroup = Cgroup::new();
        let mut events = WarningFile::events(cgroup.0.path()).unwrap();
        cgroup.write("memory.high", "max\n");
        cgroup.count(9, 4);
        assert_eq!(events.take().unwrap(), Raised::default());
        cgroup.write("memory.events", "nonsense\n");
        assert!(events.take().is_err());
    }

    #[test]
    fn pressure_is_read_from_its_line() {
        let text = "some avg10=12.34 avg60=5.00 avg300=1.00 total=99\nfull avg10=1.00 avg60=0.00\n";
        assert_eq!(some_avg10(text), Some(12.34));
        for broken in
            ["", "full avg10=1.00", "some avg60=1.00", "some avg10=much", "some avg10=NaN"]
        {
            assert_eq!(some_avg10(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_trigger_is_written_in_microseconds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let millis = Duration::from_millis;
        assert!(WarningFile::pressure(&path, millis(300), millis(2000)).is_err());
        fs::write(&path, "").unwrap();
        WarningFile::pressure(&path, millis(300), millis(2000)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "some 300000 2000000\0");
    }
}
