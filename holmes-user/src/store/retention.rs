//! Which incidents stay: the oldest go first, by age and by the bytes of all together.
//!
//! Must not: follow symbolic links, or delete anything that is not an incident: a folder with an
//! incident's name that holds plain files only, `incident.json` among them.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::SystemTime;

use super::incident_store::DOCUMENT_FILE;
use super::name::is_folder_name;
use super::staging::PREFIX;
use crate::settings::Retention;

/// An incident on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredIncident {
    /// The folder's name.
    pub(super) name: String,
    /// When it was written. Not the time in its name: the replay of an old recording is a new
    /// incident folder, and must not be retired at once.
    pub(super) written: SystemTime,
    /// The sum of its files.
    pub(super) bytes: u64,
}

/// Why an incident is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetireCause {
    /// It is older than `max_age`.
    Age,
    /// All together are larger than `max_bytes`.
    Bytes,
}

/// The incidents of a dump folder, oldest first.
pub(super) fn list(dump_dir: &Path) -> io::Result<Vec<StoredIncident>> {
    let mut found: Vec<_> = fs::read_dir(dump_dir)?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| is_folder_name(name))?;
            // `DirEntry::metadata` does not follow links.
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
            let bytes = bytes_of_incident(&entry.path())?;
            Some(StoredIncident { name, written: metadata.modified().ok()?, bytes })
        })
        .collect();
    found.sort_by(|a, b| (a.written, &a.name).cmp(&(b.written, &b.name)));
    Ok(found)
}

/// The sum of an incident's files; `None` where the folder holds anything but an incident.
fn bytes_of_incident(folder: &Path) -> Option<u64> {
    let mut bytes = 0_u64;
    let mut has_document = false;
    for entry in fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        has_document |= entry.file_name() == DOCUMENT_FILE;
        bytes = bytes.saturating_add(metadata.len());
    }
    has_document.then_some(bytes)
}

/// Which of the incidents (oldest first) have to go at `now`. Never `keep`, the one just written,
/// even where it alone is too large: an incident that is gone before anybody saw it is worse than
/// a full budget.
pub(super) fn choose<'a>(
    stored: &'a [StoredIncident],
    retention: Retention,
    now: SystemTime,
    keep: Option<&str>,
) -> Vec<(&'a StoredIncident, RetireCause)> {
    let mut total = stored.iter().fold(0, |sum: u64, incident| sum.saturating_add(incident.bytes));
    let mut chosen = Vec::new();
    for incident in stored.iter().filter(|incident| keep != Some(incident.name.as_str())) {
        // A folder from the future (the clock was set back) is as young as can be.
        let age = now.duration_since(incident.written).unwrap_or_default();
        let cause = if age > retention.max_age {
            RetireCause::Age
        } else if total > retention.max_bytes {
            RetireCause::Bytes
        } else {
            break;
        };
        total = total.saturating_sub(incident.bytes);
        chosen.push((incident, cause));
    }
    chosen
}

/// Whether `bytes` could find room at all, were every incident gone. Where not, retiring them would
/// lose them for nothing.
pub(super) fn could_make_room(dump_dir: &Path, stored: &[StoredIncident], bytes: u64) -> bool {
    // Where the kernel does not say, trying is right.
    let free = free_bytes(dump_dir).unwrap_or(u64::MAX);
    stored.iter().fold(free, |sum, incident| sum.saturating_add(incident.bytes)) >= bytes
}

/// Bytes free on the folder's file system.
fn free_bytes(folder: &Path) -> Option<u64> {
    let folder = File::open(folder).ok()?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open, and the pointer is to memory of the type that is written.
    if unsafe { libc::fstatvfs(folder.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let stat = unsafe { stat.assume_init() };
    Some(stat.f_bfree.saturating_mul(stat.f_frsize))
}

/// The oldest incidents that together free at least `bytes`, or all of them.
pub(super) fn oldest(stored: &[StoredIncident], bytes: u64) -> &[StoredIncident] {
    let mut freed = 0_u64;
    let enough = stored.iter().position(|incident| {
        freed = freed.saturating_add(incident.bytes);
        freed >= bytes
    });
    &stored[..enough.map_or(stored.len(), |last| last + 1)]
}

/// Deletes one incident. Under a temporary name first: a reader sees a whole incident or none, and
/// what a crash leaves is removed at the next start.
pub(super) fn retire(dump_dir: &Path, incident: &StoredIncident) -> io::Result<()> {
    let path = dump_dir.join(&incident.name);
    let doomed = dump_dir.join(format!("{PREFIX}{}", incident.name));
    let renamed = fs::rename(&path, &doomed).and_then(|()| fs::remove_dir_all(&doomed));
    match renamed {
        // Somebody else deleted it: gone is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Incidents of these sizes, written at 0 s, 10 s, 20 s, ...
    fn stored(sizes: &[u64]) -> Vec<StoredIncident> {
        let written = (0..).step_by(10).map(at);
        sizes
            .iter()
            .zip(written)
            .enumerate()
            .map(|(number, (&bytes, written))| StoredIncident {
                name: number.to_string(),
                written,
                bytes,
            })
            .collect()
    }

    fn chosen(
        sizes: &[u64],
        max_bytes: u64,
        max_age: u64,
        now: u64,
        keep: &str,
    ) -> Vec<(String, RetireCause)> {
        let retention = Retention { max_bytes, max_age: Duration::from_secs(max_age) };
        choose(&stored(sizes), retention, at(now), Some(keep))
            .into_iter()
            .map(|(incident, cause)| (incident.name.clone(), cause))
            .collect()
    }

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_must() {
        use RetireCause::{Age, Bytes};
        let check = |max_bytes, max_age, now, keep, expect: &[(&str, RetireCause)]| {
            let expect: Vec<_> =
                expect.iter().map(|(name, why)| (name.to_string(), *why)).collect();
            assert_eq!(chosen(&[100, 100, 100], max_bytes, max_age, now, keep), expect);
        };
        check(300, 100, 20, "2", &[]);
        check(299, 100, 20, "2", &[("0", Bytes)]);
        check(100, 100, 20, "2", &[("0", Bytes), ("1", Bytes)]);
        check(0, 100, 20, "2", &[("0", Bytes), ("1", Bytes)]);
        check(300, 10, 20, "2", &[("0", Age)]);
        check(300, 20, 20, "2", &[]);
        check(200, 10, 20, "2", &[("0", Age)]);
        check(300, 0, 90, "0", &[("1", Age), ("2", Age)]);
        check(300, 0, 0, "2", &[]);
    }

    #[test]
    fn freeing_space_takes_as_few_as_will_do() {
        let stored = stored(&[10, 20, 30]);
        for (bytes, expect) in [(1, 1), (10, 1), (11, 2), (30, 2), (31, 3), (1000, 3)] {
            assert_eq!(oldest(&stored, bytes).len(), expect, "{bytes}");
        }
        assert!(oldest(&[], 1).is_empty());
    }

    proptest! {
        #[test]
        fn what_stays_is_within_bounds_and_the_newest(
            sizes in prop::collection::vec(0..1000_u64, 1..20),
            max_bytes in 0..5000_u64,
            max_age in 0..200_u64,
        ) {
            let newest = (sizes.len() - 1).to_string();
            let now = 10 * (sizes.len() as u64 - 1);
            let gone = chosen(&sizes, max_bytes, max_age, now, &newest).len();
            let kept = &sizes[gone..];
            prop_assert!(!kept.is_empty());
            prop_assert!(kept.len() == 1 || kept.iter().sum::<u64>() <= max_bytes);
            prop_assert!(now - 10 * gone as u64 <= max_age);
        }
    }
}
