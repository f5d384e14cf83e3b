//! A folder of debug files, bounded in bytes: those used longest ago go first.
//!
//! Must not: touch files that are not its own, or give out a file of another build.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::debug_file::is_build_id;
use crate::binary::build_id;

/// How files of the cache end.
const SUFFIX: &str = ".debug";
/// How a file is called while it is written. One is written at a time.
const PARTIAL: &str = "fetching.partial";
/// Bytes written at once.
const PIECE: usize = 64 << 10;

/// Why a file is not kept.
#[derive(Debug)]
pub(super) enum StoreError {
    /// It is of another build, no ELF file, or too large.
    Refused,
    /// It cannot be read or written.
    Disk(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    max_bytes: u64,
}

impl Cache {
    /// Uses a folder, and makes it where it is missing: for its owner alone, because what is in it
    /// is trusted to be what a server sent.
    pub(super) fn open(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let cache = Self { folder: folder.to_owned(), max_bytes };
        // What a recorder that was killed left.
        match fs::remove_file(cache.folder.join(PARTIAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        cache.make_room(0)?;
        Ok(cache)
    }

    /// The largest file that is kept, in bytes: half of all, so that one cannot displace the rest.
    pub(super) const fn max_file_bytes(&self) -> u64 {
        self.max_bytes / 2
    }

    /// The file of a build, marked as just used. The caller has checked the build-id.
    pub(super) fn get(&self, id: &str) -> Option<File> {
        let file = File::open(self.path(id)).ok()?;
        if build_id(&file).as_deref() != Some(id) {
            return None;
        }
        // Ignored: on a disk that cannot be written it is evicted earlier, at worst.
        let _ = file.set_modified(SystemTime::now());
        Some(file)
    }

    /// Keeps the file of a build, whole or not at all.
    pub(super) fn put(&self, id: &str, body: &mut impl Read) -> Result<(), StoreError> {
        let partial = self.folder.join(PARTIAL);
        let result = self.write(&partial, body, id);
        if result.is_err() {
            // It is written over by the next one otherwise.
            let _ = fs::remove_file(&partial);
        }
        result
    }

    fn write(&self, partial: &Path, body: &mut impl Read, id: &str) -> Result<(), StoreError> {
        // Readable by all: the process that reads it has no rights.
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o644);
        let mut file = options.open(partial)?;
        let mut piece = vec![0; PIECE];
        let mut size = 0;
        loop {
            let length = body.read(&mut piece)?;
            if length == 0 {
                break;
            }
            size += length as u64;
            if size > self.max_file_bytes() {
                return Err(StoreError::Refused);
            }
            file.write_all(piece.get(..length).unwrap_or_default())?;
        }
        if build_id(&file).as_deref() != Some(id) {
            return Err(StoreError::Refused);
        }
        self.make_room(size)?;
        fs::rename(partial, self.path(id))?;
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}{SUFFIX}"))
    }

    /// Removes files until this many bytes fit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let metadata = entry.metadata()?;
            if id.is_some_and(is_build_id) && metadata.is_file() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut sum: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if sum.saturating_add(bytes) <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            sum -= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::elf_with_id;
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let one = elf_with_id(&[1; 20], 1000);
        let size = one.len() as u64;
        let cache = Cache::open(folder.path(), 3 * size).unwrap();
        fs::write(folder.path().join("not-ours"), [0; 5000]).unwrap();
        let id = |byte: u8| format!("{byte:02x}").repeat(20);
        for byte in 1..=3 {
            cache.put(&id(byte), &mut &elf_with_id(&[byte; 20], 1000)[..]).unwrap();
            let file = File::open(cache.path(&id(byte))).unwrap();
            let time = SystemTime::now() - Duration::from_secs(100 - u64::from(byte));
            file.set_modified(time).unwrap();
        }
        assert!(cache.get(&id(1)).is_some());
        cache.put(&id(4), &mut &elf_with_id(&[4; 20], 1000)[..]).unwrap();
        let kept: Vec<bool> = (1..=4).map(|byte| cache.get(&id(byte)).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
        assert!(folder.path().join("not-ours").exists());
    }

    #[test]
    fn files_of_another_build_and_too_large_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 10_000).unwrap();
        let id = "01".repeat(20);
        for body in [elf_with_id(&[2; 20], 100), b"<html>".to_vec(), elf_with_id(&[1; 20], 6000)] {
            assert!(matches!(cache.put(&id, &mut &body[..]), Err(StoreError::Refused)));
            assert!(cache.get(&id).is_none());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // Nor is what somebody else has put there.
        fs::write(cache.path(&id), elf_with_id(&[2; 20], 100)).unwrap();
        assert!(cache.get(&id).is_none());
    }
}
