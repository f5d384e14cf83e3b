//! All goroutines of a process, with their stacks, while it runs.
//!
//! Records are read, then the stacks they point to, then the records again: one that says the same
//! before and after has not run in between, so its stack is of that time. The others are read again.
//!
//! Must not: report what does not fit together. Where too much does not, it is an error.

use std::sync::Arc;

use super::error::GoError;
use super::goroutine::{Goroutine, Snapshot, StackEnd};
use super::labels::LabelReader;
use super::list;
use super::locks;
use super::memory::{Memory, Piece};
use super::process::GoProcess;
use super::record::{Alive, Record};
use super::stacks::Stacks;
use super::target::Target;
use super::walk::{Code, StackCopy, TableCode, WalkEnd, Walker};
use crate::collect::{Nanos, clock};

/// Goroutines that are read together: 8 MiB of stacks.
const BATCH: usize = 4096;
/// Bytes of a stack that are read at first. Most goroutines that wait use less; where that is not enough,
/// more is read.
const FIRST_BYTES: usize = 2048;
/// Bytes of a stack that are read at the most: [`super::walk::MAX_FRAMES`] frames of 256 bytes. Such are
/// read a few at a time.
const MOST_BYTES: usize = 1 << 20;
const DEEP_BATCH: usize = 16;
/// Bytes of all such stacks together, a second's work: a hundred thousand with 20 KiB each. Others are cut
/// where the first reading ended.
const MAX_DEEP_BYTES: usize = 2 << 30;
/// Times that a goroutine is looked at again which has gone on meanwhile.
const ROUNDS: u32 = 4;
/// Records in a hundred that may make no sense, before nothing is believed: of some the memory is in use
/// for something else by now.
const NONSENSE_PERCENT: usize = 2;
/// So many always may.
const NONSENSE_ALWAYS: usize = 4;

impl GoProcess {
    /// Reads all goroutines.
    ///
    /// # Errors
    /// The process ends or executes another program, its memory cannot be read, or holds no goroutines
    /// as its version of Go keeps them.
    pub fn snapshot(&self) -> Result<Snapshot, GoError> {
        let taken = clock::monotonic();
        let mut table = self.program.table()?;
        let code = TableCode::new(&mut table, self.bias);
        let (target, memory) = (self.target(), self.memory());
        let mut snapshot = read(&target, &memory, code, taken)?;
        locks::tell(&mut snapshot, &target, &memory, || self.lock_table());
        snapshot.shows_labels = self.shows_labels(&memory);
        // Another process may have got the number while this one was read.
        self.check_same()?;
        snapshot.took = clock::monotonic().since(taken);
        Ok(snapshot)
    }
}

/// Reads all goroutines from any memory.
pub(super) fn read(
    target: &Target,
    memory: &impl Memory,
    code: impl Code,
    taken: Nanos,
) -> Result<Snapshot, GoError> {
    let addresses = list::read(memory, target)?;
    let mut reader = Reader {
        target,
        memory,
        walker: Walker::new(code),
        stacks: Stacks::default(),
        labels: LabelReader::new(target, memory),
        found: Vec::new(),
        counts: Counts::default(),
        frames: Vec::new(),
        deep_left: MAX_DEEP_BYTES,
        may_miss: nonsense_in(addresses.len()),
    };
    let mut again: Vec<Wanted> = Vec::new();
    let all = addresses.iter().enumerate().map(|(place, &address)| Wanted { place, address });
    let all: Vec<Wanted> = all.collect();
    let mut deep = Vec::new();
    for batch in all.chunks(BATCH) {
        reader.visit(batch, FIRST_BYTES, &mut again, &mut deep)?;
    }
    for round in 1..=ROUNDS {
        for batch in std::mem::take(&mut again).chunks(BATCH) {
            reader.visit(batch, FIRST_BYTES, &mut again, &mut deep)?;
        }
        for batch in std::mem::take(&mut deep).chunks(DEEP_BATCH) {
            // What needs more than that is cut there.
            reader.visit(batch, MOST_BYTES, &mut again, &mut Vec::new())?;
        }
        if again.is_empty() && deep.is_empty() || round == ROUNDS {
            break;
        }
    }
    reader.counts.unread += again.len() + deep.len();
    reader.finish(taken)
}

/// A goroutine to be read.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Its place in the list.
    place: usize,
    /// Of its record.
    address: u64,
}

#[derive(Debug, Default)]
struct Counts {
    /// Records that were alive, and had no sense or none that could be read.
    unread: usize,
    nonsense: usize,
    /// Goroutines that should be in Go's code, and those that are not.
    parked: usize,
    elsewhere: usize,
    system: usize,
    without_stack: usize,
    without_labels: usize,
}

struct Reader<'p, M, C> {
    target: &'p Target,
    memory: &'p M,
    walker: Walker<C>,
    stacks: Stacks,
    labels: LabelReader<'p, M>,
    /// With its place in the list.
    found: Vec<(usize, Goroutine)>,
    counts: Counts,
    frames: Vec<u64>,
    /// Of [`MAX_DEEP_BYTES`].
    deep_left: usize,
    /// Records and stacks that may be where there is no memory: each costs a system call of its own, and
    /// the runtime gives back neither.
    may_miss: usize,
}

impl<M: Memory, C: Code> Reader<'_, M, C> {
    /// Reads some goroutines. Those that went on meanwhile are put into `again`, those whose stack is
    /// longer than `bytes` into `deep`; at [`MOST_BYTES`] they are cut.
    fn visit(
        &mut self,
        batch: &[Wanted],
        bytes: usize,
        again: &mut Vec<Wanted>,
        deep: &mut Vec<Wanted>,
    ) -> Result<(), GoError> {
        let before = self.records(batch)?;
        let mut alive = Vec::new();
        for (&wanted, record) in batch.iter().zip(before) {
            match record {
                Some(Record::Dead) => {}
                Some(Record::Alive(record)) if self.walker.is_system(record.start) => {
                    self.counts.system += 1;
                }
                Some(Record::Alive(record)) => alive.push((wanted, record)),
                Some(Record::Nonsense) => {
                    self.counts.nonsense += 1;
                    self.counts.unread += 1;
                }
                None => {
                    self.miss(1)?;
                    self.counts.unread += 1;
                }
            }
        }
        let pieces: Vec<Piece> = alive
            .iter()
            .map(|(_, record)| match record.at {
                Some((sp, _)) => Piece { address: sp, len: whole(record).min(bytes) },
                None => Piece { address: record.stack.0, len: 0 },
            })
            .collect();
        let mut copies = Vec::new();
        let are_there = self.read(&pieces, &mut copies)?;
        self.miss(are_there.iter().filter(|&&is_there| !is_there).count())?;
        let targets: Vec<Wanted> = alive.iter().map(|(wanted, _)| *wanted).collect();
        let after = self.records(&targets)?;
        let mut offset = 0;
        for (index, ((wanted, record), later)) in alive.into_iter().zip(after).enumerate() {
            let len = pieces.get(index).map_or(0, |piece| piece.len);
            let copy = copies.get(offset..offset + len).unwrap_or_default();
            offset += len;
            let is_there = are_there.get(index).copied().unwrap_or(false);
            match later {
                Some(Record::Alive(later)) if record.is_same(&later) && is_there => {
                    if self.keep(wanted, &record, copy)? {
                        let more = whole(&record).min(MOST_BYTES);
                        if bytes >= MOST_BYTES || more > self.deep_left {
                            self.add(wanted, &record, StackEnd::Cut)?;
                        } else {
                            self.deep_left -= more;
                            deep.push(wanted);
                        }
                    }
                }
                // It ended meanwhile.
                Some(Record::Dead) => {}
                _ => again.push(wanted),
            }
        }
        Ok(())
    }

    /// So much was not there.
    fn miss(&mut self, count: usize) -> Result<(), GoError> {
        match self.may_miss.checked_sub(count) {
            Some(left) => self.may_miss = left,
            None => return Err(GoError::Scattered { pid: self.target.pid }),
        }
        Ok(())
    }

    /// Takes a goroutine whose stack is of the time of its record. `true` if more of it has to be read.
    fn keep(&mut self, wanted: Wanted, record: &Alive, copy: &[u8]) -> Result<bool, GoError> {
        let Some((_, pc)) = record.at else {
            self.frames.clear();
            self.frames.push(record.start.wrapping_add(1));
            self.add(wanted, record, StackEnd::Unknown)?;
            return Ok(false);
        };
        let stack = StackCopy { pc, bytes: copy, whole: whole(record) };
        match self.walker.walk(stack, &mut self.frames) {
            WalkEnd::NeedsMore => return Ok(true),
            WalkEnd::Stack(end) => {
                self.counts.parked += 1;
                self.counts.elsewhere += usize::from(!self.walker.is_code(pc));
                self.add(wanted, record, end)?;
            }
        }
        Ok(false)
    }

    /// Adds a goroutine with the frames that were found.
    fn add(&mut self, wanted: Wanted, record: &Alive, end: StackEnd) -> Result<(), GoError> {
        let stack = self.stacks.intern(&self.frames, end).unwrap_or_else(|| {
            self.counts.without_stack += 1;
            // There is always room for this one: it is made for each without being kept.
            Arc::new(super::goroutine::Stack { addresses: Box::default(), end: StackEnd::Unknown })
        });
        let labels = match record.labels {
            0 => None,
            address => self.labels.read(address)?,
        };
        self.counts.without_labels += usize::from(labels.is_none() && record.labels != 0);
        let goroutine = Goroutine {
            id: record.id,
            state: record.state,
            waits_since: Some(Nanos(record.waits_since)).filter(|since| since.0 > 0),
            is_locked: record.is_locked,
            creator: record.creator,
            parent: record.parent,
            stack,
            labels,
            lock: 0,
            mark: record.mark(wanted.address),
        };
        self.found.push((wanted.place, goroutine));
        Ok(())
    }

    /// The records of goroutines; `None` where there is no memory.
    fn records(&self, wanted: &[Wanted]) -> Result<Vec<Option<Record>>, GoError> {
        let addresses: Vec<u64> = wanted.iter().map(|wanted| wanted.address).collect();
        super::record::read(self.memory, self.target, &addresses)
    }

    fn read(&self, pieces: &[Piece], into: &mut Vec<u8>) -> Result<Vec<bool>, GoError> {
        self.memory.read(pieces, into).map_err(|error| GoError::of(self.target.pid, error))
    }

    /// Checks that it fits together.
    fn finish(mut self, taken: Nanos) -> Result<Snapshot, GoError> {
        let Counts { unread, nonsense, parked, elsewhere, system, without_stack, without_labels } =
            self.counts;
        let count = self.found.len();
        let mut ids: Vec<u64> = self.found.iter().map(|(_, goroutine)| goroutine.id).collect();
        ids.sort_unstable();
        let twice = ids.windows(2).filter(|pair| pair.first() == pair.last()).count();
        let wrong = if count == 0 {
            Some("none of them is alive")
        } else if nonsense > nonsense_in(count) {
            Some("too many have a state, a stack or a reason that there is not")
        } else if elsewhere > nonsense_in(parked) || (parked > 0 && elsewhere == parked) {
            Some("too many are outside the program's code")
        } else if twice > nonsense_in(count) {
            Some("too many have the same number")
        } else {
            None
        };
        if let Some(what) = wrong {
            return Err(self.target.nonsense(what));
        }
        self.found.sort_unstable_by_key(|(place, _)| *place);
        let goroutines = self.found.into_iter().map(|(_, goroutine)| goroutine).collect();
        let (pid, took) = (self.target.pid, Default::default());
        let version = self.target.version.clone();
        Ok(Snapshot {
            pid,
            version,
            taken,
            took,
            shows_labels: false,
            goroutines,
            system,
            unread,
            without_stack,
            without_labels,
            without_lock: 0,
        })
    }
}

/// How many of so many may make no sense.
pub(super) fn nonsense_in(all: usize) -> usize {
    NONSENSE_ALWAYS.max(all / 100 * NONSENSE_PERCENT)
}

/// Bytes from the stack pointer to the stack's end.
fn whole(record: &Alive) -> usize {
    let (sp, _) = record.at.unwrap_or((record.stack.1, 0));
    usize::try_from(record.stack.1.saturating_sub(sp)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
