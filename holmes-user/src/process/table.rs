//! The processes: what each has mapped, read when it is first seen and again when that has become
//! wrong.
//!
//! Must not stop a process or write to it. All it reads is under `/proc`.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::image::{Image, Mapping};
use super::maps::{self, Backing, Line};
use super::objects::{MappedAt, Objects};
use crate::collect::{Nanos, Observation, What};

/// Processes remembered at the same time. The default `pid_max` of a small host is 32,768.
const MAX_PROCESSES: usize = 32_768;

/// A process seen at an unknown address has its mappings read again at most this often: it may
/// be running code that is mapped and unmapped all the time.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// While a process is young its loader maps one library after the other: then it is read more often.
/// What lives for 200 ms should be known before it ends.
const YOUNG: Duration = Duration::from_secs(2);
const YOUNG_REREAD_INTERVAL: Duration = Duration::from_millis(20);

/// Unknown addresses further up a stack are a library that was mapped meanwhile, or what a broken
/// walk leaves: each reading that brings nothing new doubles the time to the next one, up to this.
const MAX_PATIENCE: Duration = Duration::from_secs(64);

/// How long what is known of an ended process is kept: its last records may still be queued.
const KEEP_ENDED: Duration = Duration::from_secs(5);

/// How often processes that ended without notice are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// They are looked at in parts, so that a host full of processes does not hold up everything else:
/// so many at a time, so far apart. A full table takes half of [`SWEEP_INTERVAL`].
const SWEEP_AT_ONCE: usize = 256;
const SWEEP_STEP: Duration = Duration::from_millis(100);

struct Known {
    image: Option<Arc<Image>>,
    /// Tells two users of one pid apart; `None` until it is read.
    start_time: Option<u64>,
    read_at: Nanos,
    /// When it was first seen, or executed its program.
    since: Nanos,
    /// How long after `read_at` unknown addresses above the leaf are reason to read again.
    patience: Duration,
    /// The mappings were inherited from a parent, or were those of the program before an exec.
    stale: bool,
    ended_at: Option<Nanos>,
}

impl Known {
    fn new(image: Option<Arc<Image>>, read_at: Nanos, since: Nanos) -> Self {
        Self {
            image,
            start_time: None,
            read_at,
            since,
            patience: REREAD_INTERVAL,
            stale: true,
            ended_at: None,
        }
    }

    /// How long after the last reading unknown addresses are reason to read again: at the leaf, and
    /// elsewhere in a stack.
    fn intervals(&self, now: Nanos) -> (Duration, Duration) {
        if now.since(self.since) < YOUNG {
            return (YOUNG_REREAD_INTERVAL, YOUNG_REREAD_INTERVAL);
        }
        (REREAD_INTERVAL, self.patience)
    }
}

/// What is counted of the table's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// Processes known now.
    pub known: u64,
    /// Times mappings were read.
    pub maps_read: u64,
    /// Times they could not be read: mostly processes that had ended, or the table was full.
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
    /// Processes whose first thread has ended, and when, the earliest first.
    ended: VecDeque<(Nanos, u32)>,
    /// What the sweep under way has still to look at.
    to_sweep: Vec<u32>,
    /// When a sweep began, and when its last part was done.
    sweep_began: Nanos,
    swept_at: Nanos,
    /// Processes forgotten since this was last asked.
    forgotten: Vec<u32>,
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
            ended: VecDeque::new(),
            to_sweep: Vec::new(),
            sweep_began: Nanos::default(),
            swept_at: Nanos::default(),
            forgotten: Vec::new(),
            stats: ProcessStats::default(),
        }
    }

    /// What the observed process has mapped, as far as it can be known. Takes note of what the
    /// observation says about the process itself.
    pub fn image_of(&mut self, observation: &Observation) -> Option<Arc<Image>> {
        let now = observation.time;
        self.forget_ended(now);
        self.sweep(now);
        match observation.what {
            What::NewProcess { tgid } => self.forked(observation.tgid, tgid, now),
            What::Exec => {
                if let Some(known) = self.processes.get_mut(&observation.tgid) {
                    // A thread other than the first takes over its number, which has then ended.
                    *known = Known::new(None, known.read_at, now);
                }
            }
            What::Exit if observation.tid == observation.tgid => self.ended(observation.tgid, now),
            _ => {}
        }
        if self.must_read(observation, now) {
            self.read(observation.tgid, observation.tid, now);
        }
        self.processes.get(&observation.tgid).and_then(|known| known.image.clone())
    }

    /// Reads a process that is expected to be observed.
    pub fn prepare(&mut self, tgid: u32, now: Nanos) -> Option<Arc<Image>> {
        self.read(tgid, tgid, now);
        self.processes.get(&tgid).and_then(|known| known.image.clone())
    }

    /// The processes that were forgotten since this was last asked.
    pub fn take_forgotten(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.forgotten)
    }

    /// What is counted of the table's work.
    pub fn stats(&self) -> ProcessStats {
        ProcessStats {
            known: self.processes.len() as u64,
            files_unreadable: self.objects.unreadable,
            ..self.stats
        }
    }

    /// A child starts with its parent's mappings. They hold until it executes a program, or is seen
    /// elsewhere: enough to name it if it ends before it can be looked at.
    fn forked(&mut self, parent: u32, child: u32, now: Nanos) {
        let image = self.processes.get(&parent).and_then(|known| known.image.clone());
        if child != 0 && self.has_room_for(child) {
            self.processes.insert(child, Known::new(image, Nanos::default(), now));
        }
    }

    /// The first thread has ended. The others may live on: they keep what is known for a while, and
    /// are read anew if they are seen after that.
    fn ended(&mut self, tgid: u32, now: Nanos) {
        if let Some(known) = self.processes.get_mut(&tgid)
            && self.ended.len() < MAX_PROCESSES
        {
            known.ended_at = Some(now);
            self.ended.push_back((now, tgid));
        }
    }

    fn has_room_for(&self, tgid: u32) -> bool {
        self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&tgid)
    }

    fn must_read(&self, observation: &Observation, now: Nanos) -> bool {
        let Some((leaf, callers)) = observation.stack.user.split_first() else { return false };
        let Some(known) = self.processes.get(&observation.tgid) else { return true };
        let age = now.since(known.read_at);
        let (at_leaf, elsewhere) = known.intervals(now);
        let Some(image) = &known.image else {
            return known.stale || age >= at_leaf;
        };
        let strange = |address: &u64| image.find(*address).is_none();
        if strange(leaf) {
            return known.stale || age >= at_leaf;
        }
        // Where the probes' walk met no code that they know: it is not part of the stack.
        let stopped = observation.walk.stopped_at;
        // What was inherited was never read.
        !known.stale
            && age >= elsewhere
            && (callers.iter().any(strange) || (stopped != 0 && strange(&stopped)))
    }

    fn read(&mut self, tgid: u32, tid: u32, now: Nanos) {
        if !self.has_room_for(tgid) {
            // It could not be kept, and would be read again for each observation.
            self.stats.maps_failed += 1;
            return;
        }
        self.stats.maps_read += 1;
        let read = self.read_image(tgid, tid);
        let known = self.processes.entry(tgid).or_insert_with(|| Known::new(None, now, now));
        known.read_at = now;
        known.stale = false;
        match read {
            // A process that is gone keeps what was known of it.
            None => self.stats.maps_failed += 1,
            Some(read) => {
                known.start_time = Some(read.start_time);
                match &known.image {
                    // Nothing new: whoever has the old image need not tell the two apart.
                    Some(old) if is_same(old, &read) => {
                        // A young process is read often, and that says nothing of it later.
                        if now.since(known.since) >= YOUNG {
                            known.patience = (known.patience * 2).min(MAX_PATIENCE);
                        }
                    }
                    _ => {
                        known.patience = REREAD_INTERVAL;
                        known.image = Some(Arc::new(read));
                    }
                }
            }
        }
    }

    fn read_image(&mut self, tgid: u32, tid: u32) -> Option<Image> {
        let leader = self.proc_root.join(tgid.to_string());
        let thread = self.proc_root.join(tid.to_string());
        // A first thread that has ended shows no mappings, though the others live on; asked for by
        // its own number each of them shows the process's.
        let (process, lines) =
            [&leader, &thread].into_iter().find_map(|process| Some((process, lines(process)?)))?;
        let start_time = start_time(&leader).unwrap_or(0);
        // Asked for once: it opens a file of the process's.
        let mut anonymous = None;
        let mappings = lines
            .into_iter()
            .map(|Line { start, end, mut offset, backing }| {
                let object = match backing {
                    Backing::Vdso => self.objects.vdso(),
                    Backing::Anonymous => {
                        // The kernel says 0 for all of them: they would be one.
                        offset = start;
                        let objects = &mut self.objects;
                        let one = anonymous
                            .get_or_insert_with(|| objects.anonymous((tgid, start_time), process));
                        Arc::clone(one)
                    }
                    Backing::File(id, path) => {
                        self.objects.file(id, &MappedAt { process, start, end, path: &path })
                    }
                };
                Mapping { start, end, offset, object }
            })
            .collect();
        let exe = fs::read_link(process.join("exe"))
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        let number = self.next_image;
        self.next_image = self.next_image.wrapping_add(1);
        Some(Image { number, tgid, start_time, exe, mappings })
    }

    /// Forgets processes a while after they have said that they end.
    fn forget_ended(&mut self, now: Nanos) {
        while let Some(&(ended_at, tgid)) = self.ended.front()
            && now.since(ended_at) >= KEEP_ENDED
        {
            self.ended.pop_front();
            // Unless the pid has a new owner, or the process a new program.
            if self.processes.get(&tgid).is_some_and(|known| known.ended_at == Some(ended_at)) {
                self.forget(tgid);
            }
        }
    }

    /// Forgets processes that have ended without a word, and those whose pid has another owner.
    fn sweep(&mut self, now: Nanos) {
        if self.to_sweep.is_empty() && now.since(self.sweep_began) >= SWEEP_INTERVAL {
            self.sweep_began = now;
            self.to_sweep = self.processes.keys().copied().collect();
        }
        if self.to_sweep.is_empty() || now.since(self.swept_at) < SWEEP_STEP {
            return;
        }
        self.swept_at = now;
        let behind = self.to_sweep.len().saturating_sub(SWEEP_AT_ONCE);
        for tgid in self.to_sweep.split_off(behind) {
            let Some(known) = self.processes.get_mut(&tgid) else { continue };
            let gone = match start_time(&self.proc_root.join(tgid.to_string())) {
                // Its last records may still be queued.
                Err(_) => known.ended_at.is_none(),
                Ok(started) => *known.start_time.get_or_insert(started) != started,
            };
            if gone {
                self.forget(tgid);
            }
        }
    }

    fn forget(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
        // Nobody may be asking; then what is kept for them stays bounded.
        if self.forgotten.len() < MAX_PROCESSES {
            self.forgotten.push(tgid);
        }
    }
}

/// The executable mappings of a process or thread, if it has any.
fn lines(process: &Path) -> Option<Vec<Line>> {
    let lines = maps::read(fs::File::open(process.join("maps")).ok()?);
    // Otherwise it is a kernel thread, or just ending.
    (!lines.is_empty()).then_some(lines)
}

/// Whether two images differ in nothing but their number.
fn is_same(one: &Image, other: &Image) -> bool {
    let mapping = |mapping: &Mapping| {
        let Mapping { start, end, offset, object } = mapping;
        (*start, *end, *offset, object.number)
    };
    one.tgid == other.tgid
        && one.start_time == other.start_time
        && one.exe == other.exe
        && one.mappings.iter().map(mapping).eq(other.mappings.iter().map(mapping))
}

/// When the process whose folder in `/proc` this is started, in clock ticks since boot: field 22 of `stat`
/// (proc_pid_stat(5)).
///
/// # Errors
/// The kernel's; that there is no such process where its file says nothing.
pub fn start_time(process: &Path) -> io::Result<u64> {
    let stat = fs::read(process.join("stat"))?;
    // The name is the process's own choice, any bytes, parentheses too: fields are counted behind the last.
    let behind = stat.iter().rposition(|&byte| byte == b')').unwrap_or(0);
    let rest = String::from_utf8_lossy(stat.get(behind..).unwrap_or_default());
    let field = rest.split_ascii_whitespace().nth(20).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

#[cfg(test)]
mod tests;
