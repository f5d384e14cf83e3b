//! How many goroutines processes have, asked again and again.
//!
//! What is found of a program is remembered, also that it is none of Go's; a process then costs a few
//! system calls, and one more for each thousand goroutines.
//!
//! Must not: hold more than its bounds, or keep a program that nobody runs for ever.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::GoError;
use super::list;
use super::memory::Memory;
use super::process::{GoProcess, program_file};
use super::program::{FileKey, GoProgram};
use super::record::{self, Record};
use super::snapshot::nonsense_in;
use super::walk::is_system;

/// Programs remembered. A host runs some hundred different ones.
const MAX_PROGRAMS: usize = 2048;
/// Those of Go among them: each holds a file open.
const MAX_GO_PROGRAMS: usize = 64;
/// Functions that goroutines of one program begin with. Programs have some hundred.
const MAX_STARTS: usize = 1 << 14;
/// Records read together.
const BATCH: usize = 4096;

/// What was counted of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoroutineCount {
    /// Its goroutines, without the runtime's own.
    pub goroutines: u64,
    /// Records that were read for it, also of those that have ended: what it cost.
    pub records: u64,
}

/// Counts the goroutines of processes.
#[derive(Debug)]
pub struct GoroutineCounter {
    proc_root: PathBuf,
    programs: HashMap<FileKey, Known>,
    /// Counts up with each question.
    now: u64,
}

#[derive(Debug)]
struct Known {
    asked: u64,
    go: Option<GoKnown>,
}

#[derive(Debug)]
struct GoKnown {
    program: Arc<GoProgram>,
    /// Functions that goroutines begin with, as linked: whether such are the runtime's own.
    starts: HashMap<u64, bool>,
}

impl GoroutineCounter {
    /// Of the processes under `proc_root`.
    pub fn new(proc_root: &Path) -> Self {
        Self { proc_root: proc_root.to_owned(), programs: HashMap::new(), now: 0 }
    }

    /// The goroutines of a process, without the runtime's own; `None` if its program is none of Go's, or
    /// one whose goroutines cannot be told.
    ///
    /// # Errors
    /// The process is gone or may not be read, or its memory makes no sense.
    pub fn count(&mut self, pid: u32) -> Result<Option<GoroutineCount>, GoError> {
        self.now += 1;
        let (key, file) = program_file(&self.proc_root, pid)?;
        if !self.programs.contains_key(&key) {
            let go = match GoProgram::read(file) {
                Ok(program) => Some(GoKnown { program: Arc::new(program), starts: HashMap::new() }),
                Err(GoError::NotGo) => None,
                // It is asked again: the file may have been unreadable for a moment.
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    tracing::debug!(pid, "its goroutines are not counted: {error}");
                    None
                }
            };
            self.make_room(go.is_some());
            self.programs.insert(key, Known { asked: self.now, go });
        }
        let Some(known) = self.programs.get_mut(&key) else { return Ok(None) };
        known.asked = self.now;
        let Some(go) = &mut known.go else { return Ok(None) };
        let process = GoProcess::of(&self.proc_root, pid, key, Arc::clone(&go.program))?;
        count(&process, &process.memory(), &mut go.starts).map(Some)
    }

    /// Forgets those asked about longest ago, where there are too many.
    fn make_room(&mut self, of_go: bool) {
        let count = self.programs.values().filter(|known| known.go.is_some()).count();
        let is_full = self.programs.len() >= MAX_PROGRAMS;
        let go_is_full = of_go && count >= MAX_GO_PROGRAMS;
        if !is_full && !go_is_full {
            return;
        }
        let only_go = of_go && !is_full;
        let oldest = self
            .programs
            .iter()
            .filter(|(_, known)| !only_go || known.go.is_some())
            .min_by_key(|(_, known)| known.asked)
            .map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.programs.remove(&oldest);
        }
    }
}

/// The goroutines of a process that are not the runtime's own.
fn count(
    process: &GoProcess,
    memory: &impl Memory,
    known: &mut HashMap<u64, bool>,
) -> Result<GoroutineCount, GoError> {
    let target = process.target();
    let (mut nonsense, mut alive) = (0_usize, 0_usize);
    let mut starts: HashMap<u64, u64> = HashMap::new();
    let list = list::read(memory, &target)?;
    for batch in list.chunks(BATCH) {
        for record in record::read(memory, &target, batch)? {
            match record {
                Some(Record::Dead) => {}
                Some(Record::Alive(record)) => {
                    alive += 1;
                    *starts.entry(record.start).or_default() += 1;
                }
                Some(Record::Nonsense) | None => nonsense += 1,
            }
        }
        // Memory that is not there costs a system call for each record: not for all of a million.
        if nonsense > nonsense_in(list.len()) {
            break;
        }
    }
    if alive == 0 || nonsense > nonsense_in(alive) {
        return Err(target.nonsense("its list holds no goroutines"));
    }
    let linked = |start: u64| start.wrapping_sub(process.bias);
    learn(&process.program, known, starts.keys().map(|&start| linked(start)))?;
    let of_program = |start: u64| !known.get(&linked(start)).copied().unwrap_or(false);
    let of_program = starts.iter().filter(|&(&start, _)| of_program(start));
    let goroutines = of_program.map(|(_, count)| count).sum();
    Ok(GoroutineCount { goroutines, records: list.len() as u64 })
}

/// Looks up functions that are not known yet.
fn learn(
    program: &GoProgram,
    known: &mut HashMap<u64, bool>,
    starts: impl Iterator<Item = u64>,
) -> Result<(), GoError> {
    let new: Vec<u64> = starts.filter(|start| !known.contains_key(start)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut table = program.table()?;
    for start in new {
        if known.len() >= MAX_STARTS {
            break;
        }
        known.insert(start, is_system(&mut table, start));
    }
    Ok(())
}
