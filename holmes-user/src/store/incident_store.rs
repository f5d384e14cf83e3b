//! The dump folder: opened once, written one incident at a time, kept within its bounds.
//!
//! Must not: lose an incident to a full disk while an older one could go, or stop the recorder.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::document::IncidentDocument;
use super::error::StoreError;
use super::name::folder_name;
use super::retention::{self, RetireCause};
use super::staging::{self, FOLDER_MODE, Staging};
use crate::settings::Retention;
use crate::signals::Target;

/// The file that makes a folder an incident.
pub const DOCUMENT_FILE: &str = "incident.json";

/// Bytes written to see, when the store is opened, whether the disk takes any: one block.
const PROBE_BYTES: usize = 4096;

/// The probe's name: of an incident's form, so that a leftover is recognised as one.
const PROBE_NAME: &str = "00000000T000000.000Z-probe-dump-dir";

/// What goes into an incident's folder.
#[derive(Clone, Debug)]
pub struct IncidentFiles {
    /// The trigger's wall-clock time, in nanoseconds since 1970 UTC.
    pub trigger_unix_ns: u64,
    /// What the incident is about: `cpu`, `oom`, `manual`, ...
    pub kind: &'static str,
    /// Whose incident it is.
    pub target: Target,
    /// `incident.json`.
    pub document: IncidentDocument,
    /// The profiles: file name (letters, digits, `.`, `_`, `-`) and content.
    pub profiles: Vec<(String, Vec<u8>)>,
}

/// An incident on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its folder.
    pub folder: PathBuf,
    /// The sum of its files, in bytes.
    pub bytes: u64,
}

/// What the store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Incidents written.
    pub written: u64,
    /// Incidents that could not be written.
    pub failed: u64,
    /// Incidents retired because they were older than `max_age`.
    pub retired_by_age: u64,
    /// Incidents retired because all together were larger than `max_bytes`.
    pub retired_by_bytes: u64,
    /// Incidents retired because the disk was full.
    pub retired_by_full_disk: u64,
    /// Half-written folders of a crash that were removed.
    pub leftovers_removed: u64,
    /// Folders that should have gone and could not be deleted, and dump folders that could not be
    /// listed.
    pub retention_failed: u64,
    /// Incidents in the dump folder when it was last looked at.
    pub incidents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The dump folder. Cheap to share; one incident is written at a time.
#[derive(Debug)]
pub struct IncidentStore {
    dump_dir: PathBuf,
    retention: Mutex<Retention>,
    counts: Mutex<StoreCounts>,
    /// Held while writing and retiring: one writer never retires what the other just wrote.
    writing: Mutex<()>,
}

impl IncidentStore {
    /// Opens the dump folder, and creates it (mode 0750) where it is missing. Removes what a crash
    /// left half-written, retires what is too old or too much, and writes a block to see that an
    /// incident will find room.
    ///
    /// # Errors
    /// When the folder cannot be created or written, is not a folder, or the disk is full with
    /// nothing to retire.
    pub fn open(dump_dir: impl Into<PathBuf>, retention: Retention) -> Result<Self, StoreError> {
        let dump_dir = dump_dir.into();
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&dump_dir)
            .map_err(|error| StoreError::at("create the dump folder", &dump_dir, error))?;
        let (removed, failed) = staging::remove_leftovers(&dump_dir)
            .map_err(|error| StoreError::at("read the dump folder", &dump_dir, error))?;
        let store = Self {
            dump_dir,
            retention: Mutex::new(retention),
            counts: Mutex::new(StoreCounts {
                leftovers_removed: removed,
                retention_failed: failed,
                ..StoreCounts::default()
            }),
            writing: Mutex::new(()),
        };
        store.apply_retention(None);
        store.with_room_for(PROBE_BYTES as u64, || {
            Staging::create(&store.dump_dir, PROBE_NAME)?.add("probe", &[0; PROBE_BYTES])
        })?;
        Ok(store)
    }

    /// The dump folder.
    pub fn dump_dir(&self) -> &Path {
        &self.dump_dir
    }

    /// From the next incident on, other bounds.
    pub fn set_retention(&self, retention: Retention) {
        *lock(&self.retention) = retention;
    }

    /// What was done so far.
    pub fn counts(&self) -> StoreCounts {
        *lock(&self.counts)
    }

    /// Writes an incident, then retires what is too old or too much. On a full disk the oldest
    /// incidents make room, once.
    ///
    /// # Errors
    /// When the incident cannot be written. Nothing of it is left then, and the store can be used
    /// again.
    pub fn write(&self, files: &IncidentFiles) -> Result<Written, StoreError> {
        let _one_at_a_time = lock(&self.writing);
        let result = self.write_and_make_room(files);
        match &result {
            Ok(written) => {
                lock(&self.counts).written += 1;
                self.apply_retention(written.folder.file_name().and_then(|name| name.to_str()));
            }
            Err(_) => lock(&self.counts).failed += 1,
        }
        result
    }

    fn write_and_make_room(&self, files: &IncidentFiles) -> Result<Written, StoreError> {
        let name = folder_name(files.trigger_unix_ns, files.kind, &files.target);
        let mut document =
            serde_json::to_vec_pretty(&files.document).map_err(StoreError::Document)?;
        document.push(b'\n');
        if let Some((name, _)) = files.profiles.iter().find(|(name, _)| !is_file_name(name)) {
            return Err(StoreError::FileName { name: name.clone() });
        }
        let bytes = files.profiles.iter().map(|(_, content)| content.len()).sum::<usize>();
        self.with_room_for((bytes + document.len()) as u64, || {
            let mut staging = Staging::create(&self.dump_dir, &name)?;
            for (name, content) in &files.profiles {
                staging.add(name, content)?;
            }
            staging.add(DOCUMENT_FILE, &document)?;
            let (folder, bytes) = staging.publish(&name)?;
            Ok(Written { folder, bytes })
        })
    }

    /// Does the work; where the disk is full, retires the oldest incidents that free `bytes`, and
    /// does it once more.
    fn with_room_for<T>(
        &self,
        bytes: u64,
        work: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match work() {
            Err(full) if full.is_full() => {
                let retired = self.retire_oldest(bytes);
                if retired == 0 {
                    return Err(full);
                }
                tracing::warn!(
                    retired,
                    "the disk of the dump folder {} is full: retired the oldest incidents",
                    self.dump_dir.display()
                );
                work()
            }
            result => result,
        }
    }

    /// Returns how many incidents went.
    fn retire_oldest(&self, bytes: u64) -> u64 {
        let Some(stored) = self.list() else { return 0 };
        if !retention::could_make_room(&self.dump_dir, &stored, bytes) {
            return 0;
        }
        let mut retired = 0;
        for incident in retention::oldest(&stored, bytes) {
            match retention::retire(&self.dump_dir, incident) {
                Ok(()) => retired += 1,
                Err(error) => self.cannot_retire(&incident.name, &error),
            }
        }
        lock(&self.counts).retired_by_full_disk += retired;
        retired
    }

    fn apply_retention(&self, keep: Option<&str>) {
        let retention = *lock(&self.retention);
        let Some(stored) = self.list() else { return };
        let mut incidents = stored.len() as u64;
        let mut bytes = stored.iter().fold(0, |sum: u64, one| sum.saturating_add(one.bytes));
        for (incident, cause) in retention::choose(&stored, retention, SystemTime::now(), keep) {
            match retention::retire(&self.dump_dir, incident) {
                Ok(()) => {
                    incidents -= 1;
                    bytes = bytes.saturating_sub(incident.bytes);
                    let mut counts = lock(&self.counts);
                    match cause {
                        RetireCause::Age => counts.retired_by_age += 1,
                        RetireCause::Bytes => counts.retired_by_bytes += 1,
                    }
                }
                Err(error) => self.cannot_retire(&incident.name, &error),
            }
        }
        let mut counts = lock(&self.counts);
        (counts.incidents, counts.bytes) = (incidents, bytes);
    }

    fn list(&self) -> Option<Vec<retention::StoredIncident>> {
        match retention::list(&self.dump_dir) {
            Ok(stored) => Some(stored),
            Err(error) => {
                self.cannot_retire("the dump folder's entries", &error);
                None
            }
        }
    }

    /// Retention never stops the recorder: it is counted, said, and tried again next time.
    fn cannot_retire(&self, what: &str, error: &std::io::Error) {
        lock(&self.counts).retention_failed += 1;
        tracing::warn!("cannot retire {what} in {}: {error}", self.dump_dir.display());
    }
}

/// Whether a profile's name stays in its folder, is seen by `ls`, and is not the document's.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('.')
        && name != DOCUMENT_FILE
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The data behind these locks is whole after every statement, so a panic elsewhere is no reason
/// to stop storing incidents.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
