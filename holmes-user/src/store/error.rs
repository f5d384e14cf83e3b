//! Why an incident could not be stored, and what to do about it.
//!
//! Must not: touch the disk.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of the store. Nothing was stored, and nothing half-written is left.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The path is there, and is something else.
    #[error("cannot {operation} {}: it is not a folder; choose another with `--dump-dir`", path.display())]
    NotAFolder {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The recorder's user may not.
    #[error(
        "cannot {operation} {}: permission denied; run as root, or choose a folder this user can \
         write with `--dump-dir`",
        path.display()
    )]
    Denied {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error(
        "cannot {operation} {}: the file system is read-only; mount a writable volume there, or \
         choose another folder with `--dump-dir`",
        path.display()
    )]
    ReadOnly {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No space, no inodes or no quota is left, even after the oldest incidents were retired.
    #[error(
        "cannot {operation} {}: the disk is full; free some space, lower `--retention-bytes`, or \
         choose another folder with `--dump-dir`",
        path.display()
    )]
    Full {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Anything else the kernel answered.
    #[error("cannot {operation} {}; check the disk and its mount", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The incident has a file whose name would leave its folder, hide, or replace another.
    #[error(
        "cannot store a file named {name:?} in an incident: this is a fault of the recorder; report it"
    )]
    FileName {
        /// The name.
        name: String,
    },
    /// Too many incidents of one target at the same millisecond.
    #[error(
        "cannot store incident {name}: too many folders of that name; move the older ones out of \
         the dump folder"
    )]
    NameTaken {
        /// The folder's name without a suffix.
        name: String,
    },
    /// `incident.json` could not be made.
    #[error("cannot write the incident as JSON: this is a fault of the recorder; report it")]
    Document(#[source] serde_json::Error),
}

impl StoreError {
    /// The error of one operation on one path, by what the kernel answered.
    pub(super) fn at(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { operation, path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { operation, path, source },
            // ENOSPC and EDQUOT: to the user both mean that something must go.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { operation, path, source }
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::NotAFolder { operation, path, source }
            }
            _ => Self::Io { operation, path, source },
        }
    }

    /// Whether freeing space may help.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
