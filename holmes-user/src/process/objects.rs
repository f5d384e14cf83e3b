//! The executable files behind mappings, each opened once and shared by all who map it.
//!
//! Must not follow a path that a target controls without checking what it led to.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use super::image::{Object, ObjectKind};
use super::perf_map;
use crate::binary::build_id;

/// Objects remembered at the same time. A host with 200 processes maps about 500 different ones;
/// beyond the limit the forgotten ones are swept first.
const MAX_OBJECTS: usize = 8192;

/// Files held open at the same time. Each takes a descriptor, of which a service gets 1024 by
/// default (soft limit); the rest is left for perf events, maps and connections.
const MAX_OPEN: usize = 512;

/// Bytes kept of a path, `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;

/// What identifies a file while it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    /// Major and minor device number as in `/proc/PID/maps`.
    pub(super) device: (u32, u32),
    /// Inode number.
    pub(super) inode: u64,
}

/// Where a mapping is, to find its file by.
pub(super) struct MappedAt<'a> {
    /// `/proc/PID`, or that of a thread: both have all that is needed.
    pub(super) process: &'a Path,
    /// First address.
    pub(super) start: u64,
    /// The address behind the last.
    pub(super) end: u64,
    /// Path as the process sees it, any bytes; ends with ` (deleted)` if nothing is there now.
    pub(super) path: &'a OsStr,
}

/// All objects in use.
pub(super) struct Objects {
    files: FxHashMap<FileId, Weak<Object>>,
    /// Those of `files` that are held open: so their number is known without counting.
    open: Vec<Weak<Object>>,
    vdso: Arc<Object>,
    /// By process: its number and when it started.
    anonymous: FxHashMap<(u32, u64), Weak<Object>>,
    /// Stands for what there is no room for.
    forgotten: Arc<Object>,
    next_number: u32,
    /// Files that could not be opened: their frames stay unnamed.
    pub(super) unreadable: u64,
}

impl Objects {
    pub(super) fn new() -> Self {
        let without_file = |number, kind, path: &str| {
            Arc::new(Object {
                number,
                kind,
                path: path.to_owned(),
                build_id: String::new(),
                file: None,
            })
        };
        Self {
            files: FxHashMap::default(),
            open: Vec::new(),
            vdso: without_file(1, ObjectKind::Vdso, "[vdso]"),
            anonymous: FxHashMap::default(),
            forgotten: without_file(2, ObjectKind::Anonymous, "[anon]"),
            next_number: 3,
            unreadable: 0,
        }
    }

    pub(super) fn vdso(&self) -> Arc<Object> {
        Arc::clone(&self.vdso)
    }

    /// The memory without a file of one process: what a JIT compiler puts at an address is known to
    /// this process alone. Its file is the one in which such a compiler says what it has put there,
    /// held open so that it can be read when the process has ended.
    pub(super) fn anonymous(&mut self, process: (u32, u64), folder: &Path) -> Arc<Object> {
        let known = self.anonymous.get(&process).and_then(Weak::upgrade);
        if let Some(known) = &known
            && (known.file.is_some() || !self.may_open())
        {
            return Arc::clone(known);
        }
        // Most processes have none, or write it later.
        let file = perf_map::open(folder, process.0).ok().filter(|_| self.may_open());
        if let Some(known) = known
            && file.is_none()
        {
            return known;
        }
        if self.anonymous.len() >= MAX_OBJECTS && !self.anonymous.contains_key(&process) {
            self.anonymous.retain(|_, object| object.strong_count() > 0);
            if self.anonymous.len() >= MAX_OBJECTS {
                return Arc::clone(&self.forgotten);
            }
        }
        let object = Arc::new(Object {
            number: self.next_number,
            kind: ObjectKind::Anonymous,
            path: self.forgotten.path.clone(),
            build_id: String::new(),
            file,
        });
        self.next_number = self.next_number.wrapping_add(1);
        let weak = Arc::downgrade(&object);
        if object.file.is_some() {
            self.open.push(Weak::clone(&weak));
        }
        self.anonymous.insert(process, weak);
        object
    }

    /// The object of a mapped file: the known one, or a new one.
    pub(super) fn file(&mut self, id: FileId, at: &MappedAt<'_>) -> Arc<Object> {
        let known = self.files.get(&id).and_then(Weak::upgrade);
        if let Some(known) = &known
            && (known.file.is_some() || !self.may_open())
        {
            return Arc::clone(known);
        }
        // What was not opened the last time may be now: its process was just ending, or there were
        // too many. Otherwise one such moment would cost everybody the names of, say, libc.
        let found = open(id, at);
        let build_id = found.as_ref().ok().and_then(build_id).unwrap_or_default();
        // Past the limit the file's build-id is all that is kept.
        let file = found.ok().map(|file| self.may_open().then_some(file));
        if file.is_none() {
            if let Some(known) = known {
                return known;
            }
            self.unreadable += 1;
        }
        if self.files.len() >= MAX_OBJECTS && !self.files.contains_key(&id) {
            self.files.retain(|_, object| object.strong_count() > 0);
            if self.files.len() >= MAX_OBJECTS {
                // All in use: this mapping goes without names, like memory without a file.
                self.unreadable += 1;
                return Arc::clone(&self.forgotten);
            }
        }
        let mut path = at.path.to_string_lossy().into_owned();
        truncate(&mut path);
        let object = Arc::new(Object {
            number: self.next_number,
            kind: ObjectKind::File,
            path,
            build_id,
            file: file.flatten(),
        });
        self.next_number = self.next_number.wrapping_add(1);
        let weak = Arc::downgrade(&object);
        if object.file.is_some() {
            self.open.push(Weak::clone(&weak));
        }
        self.files.insert(id, weak);
        object
    }

    /// Whether there is room for one more open file.
    fn may_open(&mut self) -> bool {
        if self.open.len() >= MAX_OPEN {
            self.open.retain(|object| object.strong_count() > 0);
        }
        self.open.len() < MAX_OPEN
    }
}

/// Cuts a path to `MAX_PATH_BYTES` without cutting a character.
fn truncate(path: &mut String) {
    let mut end = path.len().min(MAX_PATH_BYTES);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path.truncate(end);
}

/// Opens the mapped file itself: through `map_files`, which cannot lead elsewhere; without the
/// privilege for that by its path in the process's root, if what is there is the same file.
fn open(id: FileId, at: &MappedAt<'_>) -> io::Result<File> {
    let link = at.process.join(format!("map_files/{:x}-{:x}", at.start, at.end));
    if let Ok(file) = open_regular(&link, id) {
        return Ok(file);
    }
    let mut path = at.process.join("root").into_os_string();
    let bytes = at.path.as_bytes();
    path.push(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)));
    open_regular(&PathBuf::from(path), id)
}

/// Opens a path for reading if it is a regular file with this inode. It is looked at before it is
/// opened: opening a device or a FIFO that a target has put there could block or do harm.
fn open_regular(path: &Path, id: FileId) -> io::Result<File> {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let fd = unsafe { libc::open(name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    let place = unsafe { File::from_raw_fd(fd) };
    let metadata = place.metadata()?;
    // The device is not compared: overlay and btrfs report another one to stat than to maps.
    if !metadata.is_file() || metadata.ino() != id.inode {
        return Err(io::Error::new(io::ErrorKind::NotFound, "not the file that is mapped"));
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

#[cfg(test)]
mod tests;
