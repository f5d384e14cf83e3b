//! Where the numbers come from: the cgroup mounts and `/proc`, and small kernel text files there.
//!
//! Must not: interpret a number.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::kernel::cgroupfs::Layout;

/// The most that is read of one file, in bytes: the ids of some hundred thousand tasks.
const MAX_TEXT: u64 = 1 << 20;

/// The file systems that signals are read from.
#[derive(Clone, Debug)]
pub struct Sources {
    pub(super) layout: Layout,
    pub(super) proc: PathBuf,
}

impl Sources {
    /// This host's own.
    pub fn new(layout: Layout) -> Self {
        Self::at(layout, "/proc")
    }

    /// With another `/proc`: the host's, seen from a container, or a made-up one.
    pub fn at(layout: Layout, proc: impl Into<PathBuf>) -> Self {
        Self { layout, proc: proc.into() }
    }

    /// The folder of a process or a thread.
    pub(super) fn task(&self, id: u32) -> PathBuf {
        self.proc.join(id.to_string())
    }

    /// All processes there are.
    pub(super) fn processes(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.proc) else { return Vec::new() };
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.map_while(Result::ok).filter_map(pid).collect()
    }
}

/// The text of a kernel file. `None` where it cannot be read: the target may be gone at any time,
/// and not every kernel has every file.
pub(super) fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number that a file holds; `None` for words such as `max`, too.
pub(super) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.trim().parse().ok()
}

/// The value in a text of lines `key value`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t']))
        .and_then(|value| value.trim().parse().ok())
}

/// The numbers of a text with one per line. Zero stands for a task of another pid namespace.
pub(super) fn ids(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|id| *id != 0)
}
