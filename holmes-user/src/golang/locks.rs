//! Which lock each goroutine waits for.
//!
//! A goroutine that waits for a `sync.Mutex`, an `RWMutex` or a `WaitGroup` waits for a semaphore of four
//! bytes within it. The runtime has a table of all that are waited for: in each place a tree of those whose
//! address leads there, and behind each node of it a list of those that wait for the same one.
//!
//! Format: `semaRoot` of `runtime/sema.go`, `sudog` of `runtime/runtime2.go`. Who holds a lock is nowhere:
//! Go's locks do not note it.
//!
//! Must not: name a lock by what was read while the goroutine went on.

use std::collections::{HashMap, HashSet};

use super::build_info::GoVersion;
use super::error::GoError;
use super::goroutine::{Snapshot, State};
use super::layout::SudogLayout;
use super::memory::{END, Memory, Piece};
use super::pages::Pages;
use super::record::{self, Record};
use super::target::Target;
use super::wait_reason;
use crate::binary::u64_at;

mod place;

/// Places in the table (`semTabSize`), and how far they are apart: a line of the processor's cache.
pub(super) const ROOTS: u64 = 251;
pub(super) const ROOT: u64 = 64;
/// Where the tree is in a place, behind the runtime's own lock.
const TREE: u64 = 8;

/// Waiters that are visited in a snapshot's table, in all rounds. Each may cost a page that is read: a
/// third of a second at the worst.
const MAX_VISITS: usize = 1 << 18;
/// Times that the table is read in which somebody is not found: waiters move in it all the time.
const ROUNDS: u32 = 3;
/// Records read together.
const BATCH: usize = 4096;

/// Notes in a snapshot which locks are waited for, by the table that `table` finds in the process. Where
/// there is none, or it cannot be read, the snapshot stays as it is.
pub(super) fn tell(
    snapshot: &mut Snapshot,
    target: &Target,
    memory: &impl Memory,
    table: impl FnOnce() -> Result<Option<u64>, GoError>,
) {
    let waiting: Vec<usize> = (0..snapshot.goroutines.len())
        .filter(|&index| {
            let state = snapshot.goroutines.get(index).map(|goroutine| goroutine.state);
            state.is_some_and(|state| waits_for_lock(state, &target.version))
        })
        .collect();
    if waiting.is_empty() {
        return;
    }
    let searched = table().and_then(|table| match table {
        Some(table) => Search::new(snapshot, target, memory, &waiting).search(table),
        None => Ok(()),
    });
    if let Err(error) = searched {
        tracing::debug!(pid = target.pid, "its locks are not told: {error}");
    }
    let told = snapshot.goroutines.iter().filter(|goroutine| goroutine.lock != 0).count();
    snapshot.without_lock = waiting.len().saturating_sub(told);
}

/// Whether a goroutine in this state is in the table.
pub(super) fn waits_for_lock(state: State, version: &GoVersion) -> bool {
    match state {
        State::Waiting(reason) | State::Leaked(reason) => wait_reason::is_lock(version, reason),
        _ => false,
    }
}

/// Looks for goroutines in the table.
struct Search<'a, M> {
    snapshot: &'a mut Snapshot,
    target: &'a Target,
    memory: &'a M,
    layout: SudogLayout,
    /// Those that are not found yet, by the address of their record. The target chooses it: not by a fast
    /// hash.
    missing: HashMap<u64, Wanted>,
    /// Others that were met in this round: they are newer than the snapshot, or the runtime's own.
    others: HashSet<u64>,
    visits_left: usize,
    /// Of the entry that is looked at.
    bytes: Vec<u8>,
}

/// A goroutine that waits for a lock.
#[derive(Clone, Copy)]
struct Wanted {
    /// Its place in the snapshot.
    index: usize,
    /// What it waits for, as this round found it; 0 if it is in the table twice.
    lock: Option<u64>,
}

/// A goroutine's entry in the table (`sudog`).
struct Waiter {
    goroutine: u64,
    next: u64,
    prev: u64,
    lock: u64,
    same_lock: u64,
}

impl<'a, M: Memory> Search<'a, M> {
    fn new(
        snapshot: &'a mut Snapshot,
        target: &'a Target,
        memory: &'a M,
        waiting: &[usize],
    ) -> Self {
        let wanted = |&index: &usize| {
            let address = snapshot.goroutines.get(index)?.mark.address;
            Some((address, Wanted { index, lock: None }))
        };
        let mut missing = HashMap::with_capacity(waiting.len());
        missing.extend(waiting.iter().filter_map(wanted));
        let layout = SudogLayout::of(&target.version);
        let (others, bytes) = (HashSet::new(), Vec::new());
        Self { snapshot, target, memory, layout, missing, others, visits_left: MAX_VISITS, bytes }
    }

    fn search(mut self, table: u64) -> Result<(), GoError> {
        for _ in 0..ROUNDS {
            if self.missing.is_empty() || self.visits_left == 0 {
                break;
            }
            self.others.clear();
            self.walk(table)?;
            self.check()?;
        }
        Ok(())
    }

    /// Goes through all places of the table.
    fn walk(&mut self, table: u64) -> Result<(), GoError> {
        let place = |root: u64| table.saturating_add(root * ROOT + TREE);
        let pieces: Vec<Piece> =
            (0..ROOTS).map(|root| Piece { address: place(root), len: 8 }).collect();
        let mut trees = Vec::new();
        self.memory
            .read(&pieces, &mut trees)
            .map_err(|error| GoError::of(self.target.pid, error))?;
        // What changed since a page was read is noticed afterwards.
        let mut pages = Pages::new(self.target, self.memory);
        let (trees, _) = trees.as_chunks::<8>();
        for (root, tree) in (0..ROOTS).zip(trees) {
            let mut nodes = vec![u64::from_le_bytes(*tree)];
            while let Some(node) = nodes.pop() {
                let Some(first) = self.visit(&mut pages, node)? else { continue };
                if first.lock / 8 % ROOTS != root || !self.note(&first) {
                    continue;
                }
                nodes.extend([first.next, first.prev]);
                let (lock, mut at) = (first.lock, first.same_lock);
                while let Some(other) = self.visit(&mut pages, at)? {
                    if other.lock != lock || !self.note(&other) {
                        break;
                    }
                    at = other.same_lock;
                }
            }
        }
        Ok(())
    }

    /// Reads an entry; `None` if there is none, or too many were read.
    fn visit(&mut self, pages: &mut Pages<'_, M>, at: u64) -> Result<Option<Waiter>, GoError> {
        if at == 0 || !at.is_multiple_of(8) || at >= END || self.visits_left == 0 {
            return Ok(None);
        }
        self.visits_left -= 1;
        let bytes = &mut self.bytes;
        if !pages.copy(at, self.layout.bytes(), bytes)? {
            return Ok(None);
        }
        let waiter = Waiter {
            goroutine: u64_at(bytes, 0),
            next: u64_at(bytes, 8),
            prev: u64_at(bytes, 16),
            lock: u64_at(bytes, self.layout.elem),
            same_lock: u64_at(bytes, self.layout.waitlink),
        };
        let is_address = waiter.lock != 0 && waiter.lock.is_multiple_of(4) && waiter.lock < END;
        Ok(Some(waiter).filter(|_| is_address))
    }

    /// Notes what a goroutine waits for; `false` if it was there before: what leads to it again leads in a
    /// circle, or was moved meanwhile.
    fn note(&mut self, waiter: &Waiter) -> bool {
        let Some(wanted) = self.missing.get_mut(&waiter.goroutine) else {
            return self.others.insert(waiter.goroutine);
        };
        let is_first = wanted.lock.is_none();
        wanted.lock = Some(if is_first { waiter.lock } else { 0 });
        is_first
    }

    /// Believes what was found of those that have not gone on since the snapshot.
    fn check(&mut self) -> Result<(), GoError> {
        let mut all: Vec<(u64, Wanted)> = self.missing.drain().collect();
        // Neighbours are read together.
        all.sort_unstable_by_key(|&(address, _)| address);
        for batch in all.chunks(BATCH) {
            let addresses: Vec<u64> = batch.iter().map(|&(address, _)| address).collect();
            let records = record::read(self.memory, self.target, &addresses)?;
            for (&(address, wanted), record) in batch.iter().zip(records) {
                let Some(goroutine) = self.snapshot.goroutines.get_mut(wanted.index) else {
                    continue;
                };
                let waits = matches!(record, Some(Record::Alive(record))
                    if record.id == goroutine.id
                        && record.state == goroutine.state
                        && record.mark(address) == goroutine.mark);
                match wanted.lock.filter(|&lock| lock != 0) {
                    Some(lock) if waits => goroutine.lock = lock,
                    None if waits => {
                        self.missing.insert(address, Wanted { lock: None, ..wanted });
                    }
                    // It was not where its stack says when the table was read.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
