//! A folder on its way: filled under a temporary name, flushed, and published by one rename.
//!
//! Must not: know what is in the files, or touch anything but its own folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::name::is_folder_name;

/// What the name of a folder begins with while it is being written or deleted.
pub(super) const PREFIX: &str = ".tmp-";

/// Folders with one name: the same target, signal and millisecond. More than a few is a replay
/// into one folder over and over.
const MAX_SAME_NAME: u32 = 1000;

/// Profiles show what programs do: for root, and for the group that whoever runs the host gives
/// the dump folder (set-group-id).
pub(super) const FOLDER_MODE: u32 = 0o750;

/// The same for files.
const FILE_MODE: u32 = 0o640;

/// A folder under a temporary name. Dropped before it is published, it is removed.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// The folder itself, locked: [`remove_leftovers`] of another recorder leaves it alone.
    folder: File,
    bytes: u64,
    published: bool,
}

impl Staging {
    /// Creates the temporary folder for `name`.
    pub(super) fn create(dump_dir: &Path, name: &str) -> Result<Self, StoreError> {
        for candidate in candidates(name) {
            let path = dump_dir.join(format!("{PREFIX}{candidate}"));
            match DirBuilder::new().mode(FOLDER_MODE).create(&path) {
                Ok(()) => return Self::locked(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(StoreError::at("create folder", &path, error)),
            }
        }
        Err(StoreError::NameTaken { name: name.to_owned() })
    }

    fn locked(path: PathBuf) -> Result<Self, StoreError> {
        match open_folder(&path) {
            Ok(folder) => {
                // A file system without locks only loses the protection from a second recorder
                // that starts on the same dump folder in this moment.
                let _ = try_lock(&folder);
                Ok(Self { path, folder, bytes: 0, published: false })
            }
            Err(error) => {
                // The error that counts is the first; a leftover goes at the next start.
                let _ = fs::remove_dir(&path);
                Err(StoreError::at("open folder", &path, error))
            }
        }
    }

    /// Adds a file, flushed to the disk.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let written =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path).and_then(
                |mut file| {
                    file.write_all(content)?;
                    file.sync_all()
                },
            );
        written.map_err(|error| StoreError::at("write", &path, error))?;
        self.bytes += content.len() as u64;
        Ok(())
    }

    /// Gives the folder its name, with `-2`, `-3`, ... where that is taken. Returns the path, and
    /// the sum of its files in bytes.
    pub(super) fn publish(mut self, name: &str) -> Result<(PathBuf, u64), StoreError> {
        self.folder.sync_all().map_err(|error| StoreError::at("flush", &self.path, error))?;
        for candidate in candidates(name) {
            let path = self.path.with_file_name(&candidate);
            // rename(2) would replace an empty folder; it cannot replace anything else.
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match fs::rename(&self.path, &path) {
                Ok(()) => {
                    self.published = true;
                    // The incident is there for every reader. Should the flush fail, a power cut
                    // within the next seconds might still take it; nobody could do better.
                    let _ = path.parent().map(|parent| File::open(parent)?.sync_all());
                    return Ok((path, self.bytes));
                }
                Err(error) if is_taken(&error) => continue,
                Err(error) => return Err(StoreError::at("rename to", &path, error)),
            }
        }
        Err(StoreError::NameTaken { name: name.to_owned() })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // On the way out of an error that says more; a leftover goes at the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// `name`, `name-2`, `name-3`, ...
fn candidates(name: &str) -> impl Iterator<Item = String> {
    (1..=MAX_SAME_NAME).map(move |number| match number {
        1 => name.to_owned(),
        _ => format!("{name}-{number}"),
    })
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory
    )
}

/// Opens a folder, never through a symbolic link.
fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Takes the folder's lock, unless somebody has it. It goes with the file descriptor, so also with
/// a crash.
fn try_lock(folder: &File) -> io::Result<()> {
    // SAFETY: flock takes no pointers, and the descriptor is open for the length of the borrow.
    match unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes the temporary folders that a crash left. Returns how many went, and how many should
/// have gone but could not.
pub(super) fn remove_leftovers(dump_dir: &Path) -> io::Result<(u64, u64)> {
    let (mut removed, mut failed) = (0, 0);
    for entry in fs::read_dir(dump_dir)?.flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .is_some_and(is_folder_name);
        if !ours {
            continue;
        }
        let path = entry.path();
        // A link, a file, or a folder that went meanwhile: not ours.
        let Ok(folder) = open_folder(&path) else { continue };
        match try_lock(&folder) {
            // Another recorder is writing it at this moment.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(()) | Err(_) => {}
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => failed += 1,
        }
    }
    Ok((removed, failed))
}
