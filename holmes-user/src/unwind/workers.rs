//! The threads that make tables: they read files and compute, and touch nothing else.
//!
//! Must not: write a map. What they make is taken by the one who asked.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::compile::{Compiled, Layout, Limits, NoTable, Outcome, compile};
use crate::binary::{BinaryError, Bytes, vdso};
use crate::process::{Object, ObjectKind};

/// Two: so that a large file does not hold up the small ones of a process that lives 200 ms. One
/// takes small files only, so that one large table at most is being made, in memory.
const LANES: [Lane; 2] = [Lane::Small, Lane::Large];

/// Files up to this size are small: a few milliseconds' work. The libraries of a distribution are,
/// but for browsers' engines, compilers' and some databases'.
const SMALL_BYTES: u64 = 16 << 20;

/// Files waiting in each lane. A process maps 20 to 300; each holds a descriptor that the process
/// stage holds anyhow.
const MAX_QUEUED: usize = 512;

/// Rows of finished tables that wait to be taken: 16 MiB. One that is larger waits alone.
const MAX_FINISHED_ROWS: usize = 2 << 20;

/// What a worker yields to: everything else on the host.
const NICENESS: libc::c_int = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Small,
    Large,
}

/// A table to be made.
#[derive(Debug)]
pub(super) struct Job {
    /// Who asked: handed back as it is.
    pub(super) ticket: Ticket,
    /// Of this.
    pub(super) object: Arc<Object>,
    /// What it may have at most.
    pub(super) limits: Limits,
}

/// An executable's number and which of its users: numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) number: u32,
    pub(super) user: u64,
}

/// What became of a job.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) ticket: Ticket,
    pub(super) compiled: Compiled,
    /// How long it took.
    pub(super) took: Duration,
}

impl Done {
    pub(super) fn rows(&self) -> usize {
        match &self.compiled.outcome {
            Outcome::Table(table) => table.rows.len(),
            Outcome::None(_) => 0,
        }
    }
}

#[derive(Default)]
struct State {
    small: VecDeque<Job>,
    large: VecDeque<Job>,
    finished: VecDeque<Done>,
    finished_rows: usize,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A worker panics only outside of the lock, so that what is locked is whole in any case.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers.
pub(super) struct Workers {
    shared: Arc<Shared>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let workers = Self { shared: Arc::clone(&shared) };
        for lane in LANES {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("unwind-tables".to_owned()).spawn(move || {
                // SAFETY: no memory is involved; on Linux process 0 is the calling thread.
                // Refused it works at the common priority, which costs others a little.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
                work(&shared, lane);
            })?;
        }
        Ok(workers)
    }

    /// Whether a file goes before the large ones.
    pub(super) fn is_small(object: &Object) -> bool {
        let size = object.file.as_ref().and_then(|file| file.metadata().ok());
        size.is_none_or(|metadata| metadata.len() <= SMALL_BYTES)
    }

    /// Queues a job; `false` if the queue is full.
    pub(super) fn submit(&self, job: Job) -> bool {
        let small = Self::is_small(&job.object);
        let mut state = self.shared.lock();
        let queue = if small { &mut state.small } else { &mut state.large };
        if queue.len() >= MAX_QUEUED {
            return false;
        }
        queue.push_back(job);
        drop(state);
        self.shared.changed.notify_all();
        true
    }

    /// A finished job, the earliest first.
    pub(super) fn take(&self) -> Option<Done> {
        let mut state = self.shared.lock();
        let done = state.finished.pop_front()?;
        state.finished_rows -= done.rows();
        drop(state);
        self.shared.changed.notify_all();
        Some(done)
    }
}

impl Drop for Workers {
    /// They are not waited for: one may be at work for seconds, on nothing that is needed now.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

fn work(shared: &Shared, lane: Lane) {
    let wait = |state| shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    let mut state = shared.lock();
    loop {
        if state.stop {
            return;
        }
        let small = state.small.pop_front();
        let job = small.or_else(|| (lane == Lane::Large).then(|| state.large.pop_front())?);
        let Some(job) = job else {
            state = wait(state);
            continue;
        };
        drop(state);
        let done = finish(job, compile_object);
        state = shared.lock();
        while !state.stop
            && state.finished_rows > 0
            && state.finished_rows + done.rows() > MAX_FINISHED_ROWS
        {
            state = wait(state);
        }
        state.finished_rows += done.rows();
        state.finished.push_back(done);
    }
}

/// Does a job. A file on which it panics has no table; the others do.
fn finish(job: Job, compile: impl FnOnce(&Object, Limits) -> Compiled) -> Done {
    let began = Instant::now();
    let compiled = catch_unwind(AssertUnwindSafe(|| compile(&job.object, job.limits)));
    let compiled = compiled.unwrap_or_else(|_| Compiled {
        layout: Layout::default(),
        outcome: Outcome::None(NoTable::Defect),
    });
    Done { ticket: job.ticket, compiled, took: began.elapsed() }
}

/// Makes the table of an object, whatever it is.
fn compile_object(object: &Object, limits: Limits) -> Compiled {
    let unreadable = |why| Compiled {
        layout: Layout::default(),
        outcome: Outcome::None(NoTable::Unreadable(BinaryError::Malformed(why))),
    };
    match (object.kind, &object.file) {
        (ObjectKind::File, Some(file)) => compile(Bytes::File(file), limits),
        (ObjectKind::Vdso, _) => match vdso() {
            Ok(bytes) => compile(Bytes::Memory(&bytes), limits),
            Err(_) => unreadable("there is no vDSO"),
        },
        _ => unreadable("it is not open"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u32) -> Job {
        let object = Arc::new(Object {
            number,
            kind: ObjectKind::Vdso,
            path: String::new(),
            build_id: String::new(),
            file: None,
        });
        Job { ticket: Ticket { number, user: 0 }, object, limits: Limits::default() }
    }

    #[test]
    fn a_file_that_makes_it_panic_costs_itself_only() {
        let done = finish(job(7), |_, _| panic!("an index is wrong"));
        assert_eq!(done.ticket.number, 7);
        assert!(matches!(done.compiled.outcome, Outcome::None(NoTable::Defect)));
    }

    #[test]
    fn what_is_submitted_comes_back() {
        let workers = Workers::start().unwrap();
        assert!((1..=20).all(|number| workers.submit(job(number))));
        let mut numbers = Vec::new();
        while numbers.len() < 20 {
            match workers.take() {
                Some(done) => {
                    assert!(done.rows() > 0);
                    numbers.push(done.ticket.number);
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(1..=20));
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        // Without threads nothing is taken out.
        let workers = Workers { shared: Arc::default() };
        let taken = (0..2000).filter(|&number| workers.submit(job(number))).count();
        assert_eq!(taken, MAX_QUEUED);
    }
}
