//! The processes: what each has mapped, read when it is first seen and again when that has become
//! wrong.
//!
//! Must not stop a process or write to it. All it reads is under `/proc`.

use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use procfs::FromBufRead;
use procfs::process::{MMPermissions, MMapPath, MemoryMaps};
use rustc_hash::FxHashMap;

use super::image::{Image, Mapping};
use super::objects::{FileId, MappedAt, Objects};
use crate::collect::{Nanos, Observation, What};

/// Processes remembered at the same time. The default `pid_max` of a small host is 32,768.
const MAX_PROCESSES: usize = 32_768;

/// Bytes read of one `maps` file. 65,530 mappings (the kernel's default limit) of 100 bytes fit.
const MAX_MAPS_BYTES: u64 = 8 << 20;

/// Executable mappings kept of one process. Browsers and JVMs have about a thousand.
const MAX_MAPPINGS: usize = 16_384;

/// A process seen at an unknown address has its mappings read again at most this often: it may
/// be running code that is mapped and unmapped all the time.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// How long what is known of an ended process is kept: its last records may still be queued.
const KEEP_ENDED: Duration = Duration::from_secs(5);

/// How often processes that ended without notice are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

struct Known {
    image: Option<Arc<Image>>,
    read_at: Nanos,
    /// The mappings were inherited from a parent or belong to the program before an exec.
    stale: bool,
    ended_at: Option<Nanos>,
}

/// What is counted of the table's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// Processes known now.
    pub known: u64,
    /// Times mappings were read.
    pub maps_read: u64,
    /// Times they could not be read: mostly processes that had ended.
    pub maps_failed: u64,
    /// Executable files that could not be opened.
    pub files_unreadable: u64,
}

/// The processes that have been seen.
pub struct ProcessTable {
    proc_root: PathBuf,
    processes: FxHashMap<u32, Known>,
    objects: Objects,
    next_image: u32,
    swept_at: Nanos,
    stats: ProcessStats,
}

impl ProcessTable {
    /// Reads from this `/proc`.
    pub fn new(proc_root: &Path) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            processes: FxHashMap::default(),
            objects: Objects::new(),
            next_image: 1,
            swept_at: Nanos::default(),
            stats: ProcessStats::default(),
        }
    }

    /// What the observed process has mapped, as far as it can be known. Takes note of what the
    /// observation says about the process itself.
    pub fn image_of(&mut self, observation: &Observation) -> Option<Arc<Image>> {
        let now = observation.time;
        self.sweep(now);
        match observation.what {
            What::NewProcess { tgid } => self.forked(observation.tgid, tgid),
            What::Exec => {
                if let Some(known) = self.processes.get_mut(&observation.tgid) {
                    known.stale = true;
                    known.image = None;
                }
            }
            What::Exit if observation.tid == observation.tgid => {
                // The first thread may end before the others: they keep what is known.
                if let Some(known) = self.processes.get_mut(&observation.tgid) {
                    known.ended_at = Some(now);
                }
            }
            _ => {}
        }
        let stack = &observation.stack.user;
        if stack.is_empty() {
            return self.processes.get(&observation.tgid).and_then(|known| known.image.clone());
        }
        if self.must_read(observation.tgid, stack, now) {
            self.read(observation.tgid, now);
        }
        self.processes.get(&observation.tgid).and_then(|known| known.image.clone())
    }

    /// What is counted of the table's work.
    pub fn stats(&self) -> ProcessStats {
        ProcessStats {
            known: self.processes.len() as u64,
            files_unreadable: self.objects.unreadable,
            ..self.stats
        }
    }

    /// A child starts with its parent's mappings: enough to name it if it ends before it can be
    /// looked at.
    fn forked(&mut self, parent: u32, child: u32) {
        let image = self.processes.get(&parent).and_then(|known| known.image.clone());
        if child != 0
            && (self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&child))
        {
            self.processes.insert(
                child,
                Known { image, read_at: Nanos::default(), stale: true, ended_at: None },
            );
        }
    }

    fn must_read(&self, tgid: u32, stack: &[u64], now: Nanos) -> bool {
        let Some(known) = self.processes.get(&tgid) else {
            return true;
        };
        if known.stale {
            return true;
        }
        let Some(image) = &known.image else {
            return now.since(known.read_at) >= REREAD_INTERVAL;
        };
        // The leaf decides: a broken walk leaves nonsense further up.
        let strange = stack.first().is_some_and(|address| image.find(*address).is_none());
        strange && now.since(known.read_at) >= REREAD_INTERVAL
    }

    fn read(&mut self, tgid: u32, now: Nanos) {
        self.stats.maps_read += 1;
        let read = self.read_image(tgid);
        if read.is_none() {
            self.stats.maps_failed += 1;
        }
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&tgid) {
            return;
        }
        let known = self.processes.entry(tgid).or_insert(Known {
            image: None,
            read_at: now,
            stale: false,
            ended_at: None,
        });
        known.read_at = now;
        known.stale = false;
        // A process that is gone keeps what was known of it.
        if read.is_some() {
            known.image = read;
        }
    }

    fn read_image(&mut self, tgid: u32) -> Option<Arc<Image>> {
        let process = self.proc_root.join(tgid.to_string());
        let file = fs::File::open(process.join("maps")).ok()?;
        let maps = MemoryMaps::from_buf_read(BufReader::new(file.take(MAX_MAPS_BYTES))).ok()?;
        let mappings: Vec<Mapping> = maps
            .0
            .iter()
            .filter(|map| map.perms.contains(MMPermissions::EXECUTE))
            .take(MAX_MAPPINGS)
            .filter_map(|map| {
                let (start, end) = map.address;
                let object = match &map.pathname {
                    MMapPath::Vdso => self.objects.vdso(),
                    MMapPath::Path(path) if map.inode != 0 => {
                        let path = path.to_string_lossy();
                        let at = MappedAt { process: &process, start, end, path: &path };
                        self.objects.file(FileId { device: map.dev, inode: map.inode }, &at)
                    }
                    // One page of the kernel's that nothing has called for ten years.
                    MMapPath::Vsyscall => return None,
                    _ => self.objects.anonymous(),
                };
                Some(Mapping { start, end, offset: map.offset, object })
            })
            .collect();
        if mappings.is_empty() {
            // A kernel thread, or a process that is just ending.
            return None;
        }
        let exe = fs::read_link(process.join("exe"))
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        let number = self.next_image;
        self.next_image = self.next_image.wrapping_add(1);
        let start_time = start_time(&process).unwrap_or(0);
        Some(Arc::new(Image { number, tgid, start_time, exe, mappings }))
    }

    /// Forgets processes that have ended, announced or not, and those whose pid has another owner.
    fn sweep(&mut self, now: Nanos) {
        if now.since(self.swept_at) < SWEEP_INTERVAL {
            return;
        }
        self.swept_at = now;
        let root = &self.proc_root;
        self.processes.retain(|tgid, known| {
            if known.ended_at.is_some_and(|ended| now.since(ended) < KEEP_ENDED) {
                return true;
            }
            let started = start_time(&root.join(tgid.to_string()));
            match (&known.image, started) {
                (_, None) => false,
                (Some(image), Some(started)) => image.start_time == started || image.tgid != *tgid,
                (None, Some(_)) => true,
            }
        });
    }
}

/// When the process started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
fn start_time(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name may contain anything, parentheses too: fields are counted behind the last one.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
