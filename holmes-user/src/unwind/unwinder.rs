//! The stage's door: told what is seen of processes, it sees to it that the probes can walk their
//! stacks.
//!
//! Must not: block. The work on files is done by the workers, and taken over here in portions.

use std::io;
use std::sync::Arc;

use holmes_common::limits::MAX_MAPPING_ENTRIES;
use holmes_common::record::flag;
use thiserror::Error;

use super::executables::{Executables, Placed};
use super::mappings::Mappings;
use super::stats::UnwindStats;
use super::workers::{Done, Workers};
use crate::collect::{Nanos, What};
use crate::kernel::UnwindMaps;
use crate::process::{Attributed, Image, Object};

/// Tables written in one call of [`Unwinder::work`]: at ten calls a second a host's 500 executables
/// take five seconds, as long as making them does.
const MAX_TABLES_AT_ONCE: usize = 16;

/// Rows written in one call, 8 MiB: a few milliseconds. A larger table is written alone.
const MAX_ROWS_AT_ONCE: usize = 1 << 20;

/// Why there is no unwinder.
#[derive(Debug, Error)]
pub enum UnwindError {
    /// Its threads could not be started.
    #[error(
        "cannot start the threads that make unwind tables; raise the limit of tasks (pids.max, \
         ulimit -u)"
    )]
    Workers(#[source] io::Error),
}

/// Keeps the tables and mappings that the probes walk stacks by.
pub struct Unwinder {
    maps: Box<dyn UnwindMaps + Send>,
    workers: Workers,
    executables: Executables,
    mappings: Mappings,
    /// A table that waits for its room.
    waiting: Option<Done>,
}

impl Unwinder {
    /// Fills these maps, which must be empty.
    ///
    /// # Errors
    /// The workers could not be started.
    pub fn new(maps: Box<dyn UnwindMaps + Send>) -> Result<Self, UnwindError> {
        let executables = Executables::new(maps.room());
        Ok(Self {
            maps,
            workers: Workers::start().map_err(UnwindError::Workers)?,
            executables,
            mappings: Mappings::new(),
            waiting: None,
        })
    }

    /// Takes from an observation what concerns the tables.
    pub fn observe(&mut self, attributed: &Attributed) {
        let Attributed { observation, image, .. } = attributed;
        let (tgid, now) = (observation.tgid, observation.time);
        match observation.what {
            What::Exec => self.execed(tgid, now),
            // Whoever had its number before is gone.
            What::NewProcess { tgid } => self.execed(tgid, now),
            What::Exit if observation.tid == tgid => self.exited(tgid, now),
            _ => {}
        }
        // An observation without a stack is no sign that one will be walked.
        let Some(image) = image.as_ref().filter(|_| !observation.stack.user.is_empty()) else {
            return;
        };
        self.seen(tgid, image, now);
        if observation.flags & flag::TABLE_WANTED != 0 {
            for &address in &observation.stack.user {
                self.wants_table(tgid, address, now);
            }
        }
    }

    /// A process was seen with this image: its own, or its parent's. To be called for each observation: it costs one lookup
    /// where nothing has changed.
    pub fn seen(&mut self, tgid: u32, image: &Arc<Image>, now: Nanos) {
        if self.mappings.has(tgid, image, now) {
            return;
        }
        let maps = &mut *self.maps;
        let new = self.mappings.install(tgid, image, now, &mut self.executables, maps);
        // Ahead of the first need while there is room, as a process may live only 200 ms; but most
        // of what is mapped never runs, so that a large file waits until it does.
        for exe in new {
            if self.executables.has_plenty() {
                self.queue(exe, Workers::is_small, now);
            }
        }
    }

    /// This image is expected to be seen: all its tables are wanted.
    pub fn prepare(&mut self, tgid: u32, image: &Arc<Image>, now: Nanos) {
        self.seen(tgid, image, now);
        for mapping in &image.mappings {
            self.wants_table(tgid, mapping.start, now);
        }
    }

    /// Whether nothing is being made.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && !self.executables.any_queued()
    }

    /// A walk in this process ended at this address because the executable there has no table: it is
    /// made, if it is not under way.
    pub fn wants_table(&mut self, tgid: u32, address: u64, now: Nanos) {
        if let Some(exe) = self.mappings.exe_at(tgid, address) {
            self.queue(exe, |_| true, now);
        }
    }

    /// A process executes another program: what it had mapped is gone.
    pub fn execed(&mut self, tgid: u32, now: Nanos) {
        self.mappings.remove(tgid, now, &mut self.executables, &mut *self.maps);
    }

    /// The first thread of a process has ended. It is forgotten a while later.
    pub fn exited(&mut self, tgid: u32, now: Nanos) {
        self.mappings.exited(tgid, now);
    }

    /// A process is gone, for whoever knows it for sure.
    pub fn forgot(&mut self, tgid: u32, now: Nanos) {
        self.mappings.remove(tgid, now, &mut self.executables, &mut *self.maps);
    }

    /// Takes over what the workers have finished, and forgets what has ended. To be called about ten
    /// times a second, and when the probes' records are drained.
    pub fn work(&mut self, now: Nanos) {
        self.mappings.forget_ended(now, &mut self.executables, &mut *self.maps);
        let mut rows = 0;
        for _ in 0..MAX_TABLES_AT_ONCE {
            let Some(done) = self.waiting.take().or_else(|| self.workers.take()) else { break };
            rows += done.rows();
            match self.executables.place(done, now, &mut *self.maps) {
                Placed::Written { number, bias_is_new } => {
                    if bias_is_new {
                        let maps = &mut *self.maps;
                        self.mappings.set_bias(number, now, &mut self.executables, maps);
                    }
                    self.executables.reveal(number, &mut *self.maps);
                }
                Placed::Later(done) => {
                    self.waiting = Some(done);
                    break;
                }
                Placed::Dropped => {}
            }
            if rows >= MAX_ROWS_AT_ONCE {
                break;
            }
        }
    }

    /// What is counted.
    pub fn stats(&self) -> UnwindStats {
        UnwindStats {
            mapping_entries: self.mappings.entries() as u64,
            mapping_room: MAX_MAPPING_ENTRIES.into(),
            processes: self.mappings.processes() as u64,
            processes_refused: self.mappings.refused,
            ..self.executables.stats()
        }
    }

    /// What a walk looks up.
    pub(super) fn tables(&self) -> (&Mappings, &Executables, &dyn UnwindMaps) {
        (&self.mappings, &self.executables, &*self.maps)
    }

    fn queue(&mut self, exe: u32, may: impl Fn(&Object) -> bool, now: Nanos) {
        if let Some(job) = self.executables.want(exe, now, may)
            && !self.workers.submit(job)
        {
            self.executables.not_queued(exe, now);
        }
    }
}

#[cfg(test)]
mod tests;
