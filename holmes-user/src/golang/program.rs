//! What a Go program's file says once for all processes that run it.
//!
//! Must not: read a process.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::build_info::GoVersion;
use super::error::GoError;
use super::layout::Layout;
use super::locate::{self, ListPlace};
use super::own_layout::OwnLayout;
use crate::binary::{BinaryError, Bytes, Elf, GoTable};

/// What identifies a file as long as nobody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileKey {
    pub(super) fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// A Go program: its version, and where it keeps its goroutines.
#[derive(Debug)]
pub struct GoProgram {
    pub(super) file: File,
    pub(super) elf: Elf,
    pub(super) version: GoVersion,
    pub(super) layout: Layout,
    pub(super) list: ListPlace,
}

impl GoProgram {
    /// Reads what is needed of a program's file.
    ///
    /// # Errors
    /// It is no Go program, of a version that is not known, or for another processor.
    pub fn read(file: File) -> Result<Self, GoError> {
        let bytes = Bytes::File(&file);
        let elf = Elf::read(bytes).map_err(|_| GoError::NotGo)?;
        let Some(mut version) = GoVersion::find(bytes, &elf)? else { return Err(GoError::NotGo) };
        let layout = match Layout::of(version.minor).filter(|_| version.is_release()) {
            Some(layout) => layout,
            None => match OwnLayout::find(bytes, &elf, &version) {
                Err(error @ BinaryError::Read(_)) => return Err(error.into()),
                Ok(Some(own)) => version.own.insert(Arc::new(own)).goroutine,
                // What cannot be used tells nothing.
                Err(error @ BinaryError::Malformed(_)) => {
                    tracing::debug!("{}: {error}", version.text);
                    return Err(GoError::Version { version: version.text });
                }
                Ok(None) => return Err(GoError::Version { version: version.text }),
            },
        };
        let mut table = GoTable::find(bytes, &elf)?.ok_or(GoError::NotGo)?;
        let list = locate::find(bytes, &elf, &mut table)?;
        Ok(Self { elf, version, layout, list, file })
    }

    /// The version of Go it was built with.
    pub fn version(&self) -> &GoVersion {
        &self.version
    }

    /// Its function table.
    pub(super) fn table(&self) -> Result<GoTable<'_>, GoError> {
        GoTable::find(Bytes::File(&self.file), &self.elf)?.ok_or(GoError::NotGo)
    }

    /// Where the program begins, as linked.
    pub(super) fn entry(&self) -> u64 {
        crate::binary::u64_at(&self.elf.header, 24)
    }
}
