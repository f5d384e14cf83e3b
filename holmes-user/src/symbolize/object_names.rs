//! Which files name the places of one object, and who reads them: a child process if there is one,
//! else this process, within narrower bounds.
//!
//! Must not: map a file that a target can change, or copy more than an excerpt.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::collector::Collector;
use super::debug_file::{self, Sought};
use super::debuginfod::Debuginfod;
use super::elf::{self, Answer, Deadlines, Files, Said, Spot};
use super::excerpt::{CopyDebug, Excerpt};
use super::stats::{DebugSkipped, Unnamed};
use super::symbolizer::excerpt;
use super::worker::{Handed, Worker};
use crate::binary::Bytes;
use crate::process::Object;

/// A separate debug file that is mapped in this process, in bytes: parsing takes memory in
/// proportion.
const MAX_MAPPED_BYTES: u64 = 256 << 20;
/// The address of an offset that is in no segment: no code is there.
const NOWHERE: u64 = i64::MAX as u64;

/// What helps to name the places of files.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    pub(super) worker: Option<Worker>,
    pub(super) debug_dirs: Vec<PathBuf>,
    pub(super) debuginfod: Option<Arc<Debuginfod>>,
}

/// What names the places of an object.
#[derive(Debug)]
pub(super) struct Opened {
    excerpt: Excerpt,
    /// Where debug information is, if it is not in the excerpt.
    debug: Option<File>,
    /// Why debug information that is somewhere is not used.
    skipped: Option<DebugSkipped>,
    /// Whether a child process is to read them.
    by_worker: bool,
}

/// What was found out about some places of an object.
#[derive(Debug)]
pub(super) struct Found {
    /// In the order of the places.
    pub(super) answers: Vec<Answer>,
    /// Why debug information was not used.
    pub(super) skipped: Option<DebugSkipped>,
    /// Bytes left for names.
    pub(super) room: usize,
}

impl Helpers {
    /// Finds the files for an object.
    pub(super) fn open(
        &mut self,
        object: &Object,
        deadlines: Deadlines,
    ) -> Result<Opened, Unnamed> {
        let file = object.file.as_ref().ok_or(Unnamed::NotOpen)?;
        let walled = self.worker.as_mut().and_then(Worker::walled);
        // A child that reaches other files could be led to them by the target's debug information:
        // it gets a copy without the sections that could.
        let mapped = walled == Some(true) && readable_by_all(file);
        let copy = if mapped { CopyDebug::No } else { CopyDebug::Yes };
        let excerpt = excerpt(Bytes::File(file), &object.path, copy)?;
        let mut skipped = excerpt.debug_skipped;
        let mut debug = None;
        if excerpt.file_has_debug {
            if mapped {
                match file.try_clone() {
                    Ok(file) => debug = Some(file),
                    Err(_) => skipped = Some(DebugSkipped::Unreadable),
                }
            }
        } else {
            match self.separate(object, &excerpt, walled.is_some(), deadlines) {
                Ok(file) => debug = file,
                Err(cause) => skipped = Some(cause),
            }
        }
        Ok(Opened { excerpt, debug, skipped, by_worker: walled.is_some() })
    }

    fn separate(
        &self,
        object: &Object,
        excerpt: &Excerpt,
        by_worker: bool,
        deadlines: Deadlines,
    ) -> Result<Option<File>, DebugSkipped> {
        let link = excerpt.link.as_ref();
        let sought = Sought { path: &object.path, build_id: &object.build_id, link };
        let on_disk = debug_file::find(&self.debug_dirs, sought, deadlines.debug);
        let found = match (on_disk, &self.debuginfod) {
            (Ok(Some(file)), _) => Some(file),
            (other, Some(debuginfod)) => match debuginfod.debug_file(&object.build_id) {
                Some(file) => Some(file),
                None => other?,
            },
            (other, None) => other?,
        };
        match found {
            Some(file) if !by_worker => bounded_and_ours(file).map(Some),
            other => Ok(other),
        }
    }

    /// Names places of an object; `room` is how many bytes the names may take.
    pub(super) fn name(
        &mut self,
        opened: &Opened,
        offsets: &[u64],
        deadlines: Deadlines,
        room: usize,
    ) -> Found {
        let Opened { excerpt, debug, skipped, by_worker } = opened;
        let Some(worker) = self.worker.as_mut().filter(|_| *by_worker) else {
            return name_here(excerpt, debug.as_ref(), *skipped, offsets, deadlines, room);
        };
        let mut answers = Collector::new(room);
        let handed = Handed {
            symbols: excerpt.has_symbols.then(|| excerpt.file()),
            debug: debug.as_ref().or_else(|| excerpt.has_debug.then(|| excerpt.file())),
        };
        let found = worker.name(handed, &spots(excerpt, offsets), deadlines, &mut answers);
        let (answers, room) = answers.finish();
        Found { answers, skipped: skipped.or(found), room }
    }

    /// The incident is named.
    pub(super) fn end(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.end();
        }
    }
}

/// Names places in this process. `debug` is a separate debug file.
pub(super) fn name_here(
    excerpt: &Excerpt,
    debug: Option<&File>,
    skipped: Option<DebugSkipped>,
    offsets: &[u64],
    deadlines: Deadlines,
    room: usize,
) -> Found {
    let mut answers = Collector::new(room);
    let mut skipped = skipped.or(excerpt.debug_skipped);
    let own = excerpt.path();
    let debug = debug.map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
    let files = Files {
        symbols: excerpt.has_symbols.then_some(&*own),
        debug: debug.as_deref().or(excerpt.has_debug.then_some(&*own)),
    };
    elf::name(files, &spots(excerpt, offsets), deadlines, &mut |said| {
        match said {
            Said::Answers(list) => list.into_iter().for_each(|answer| answers.add(answer)),
            Said::DebugOver(cause) => skipped = skipped.or(cause),
        }
        true
    });
    let (answers, room) = answers.finish();
    Found { answers, skipped, room }
}

fn spots(excerpt: &Excerpt, offsets: &[u64]) -> Vec<Spot> {
    let spot = |&offset: &u64| (offset, excerpt.address_of(offset).unwrap_or(NOWHERE));
    offsets.iter().map(spot).collect()
}

/// Whether a process without rights can open it again.
fn readable_by_all(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// A file that may be mapped in this process: of bearable size, and nobody but root can cut it
/// short, which would end the reader.
fn bounded_and_ours(file: File) -> Result<File, DebugSkipped> {
    let metadata = file.metadata().map_err(|_| DebugSkipped::Unreadable)?;
    if metadata.len() > MAX_MAPPED_BYTES {
        return Err(DebugSkipped::TooLarge);
    }
    let ours = metadata.uid() == 0 && metadata.mode() & 0o022 == 0;
    if ours { Ok(file) } else { Err(DebugSkipped::Unreadable) }
}
