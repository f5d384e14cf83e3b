//! The executables that mappings refer to by number: their tables, and the room these take.
//!
//! Must not: know processes, or read a file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holmes_common::unwind::{Exe, NO_EXE, Page, exe_state};
use rustc_hash::FxHashMap;

use super::compile::{Layout, Limits, NoTable, Outcome};
use super::slot::{Key, Slot, State};
use super::space::{QUARANTINE, Range, Space};
use super::stats::UnwindStats;
use super::workers::{Done, Job, Ticket};
use crate::collect::Nanos;
use crate::kernel::{UnwindMaps, UnwindRoom};
use crate::process::{Object, ObjectKind};

/// A table that was used or made so recently is not evicted: two that do not fit together would
/// push each other out without end.
const KEEP: Duration = Duration::from_secs(10);

/// After a table found no room it is not made again for so long: everything else is in use, and the
/// work would be for nothing.
const RETRY_ROOM: Duration = Duration::from_secs(60);

/// After the queue was full: it is a few hundred times a few milliseconds long.
const RETRY_QUEUE: Duration = Duration::from_secs(2);

/// Numbers that are freed at a time when there are none: they are usable a while later only.
const RETIRE_AT_ONCE: usize = 64;

/// Times that room is made for one table. Each time takes [`QUARANTINE`]; what is free after that
/// may be in pieces that are too short.
const MAX_ROUNDS: u32 = 3;

/// What became of a finished job.
pub(super) enum Placed {
    /// It is written; the bias of its mappings comes next if it was not known, then
    /// [`Executables::reveal`].
    Written { number: u32, bias_is_new: bool },
    /// There will be room for it soon.
    Later(Done),
    /// There is none, or nobody needs it any more.
    Dropped,
}

/// What there is to walk by in an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// A table: where its pages are, as in [`Exe`].
    Present { first_page: u32, pages: u32, base_page: u32 },
    /// There will be one.
    Wanted,
    /// There is none.
    None,
}

pub(super) struct Executables {
    room: UnwindRoom,
    slots: FxHashMap<u32, Slot>,
    by_key: FxHashMap<Key, u32>,
    /// The first number that was never used.
    fresh: u32,
    free: Vec<u32>,
    /// Numbers that a walk under way may still hold, the earliest first.
    retired: VecDeque<(Nanos, u32)>,
    rows: Space,
    pages: Space,
    users: u64,
    rounds: u32,
    stats: UnwindStats,
}

impl Executables {
    pub(super) fn new(room: UnwindRoom) -> Self {
        Self {
            room,
            slots: FxHashMap::default(),
            by_key: FxHashMap::default(),
            fresh: NO_EXE + 1,
            free: Vec::new(),
            retired: VecDeque::new(),
            rows: Space::new(room.rows),
            pages: Space::new(room.pages),
            users: 0,
            rounds: 0,
            stats: UnwindStats::default(),
        }
    }

    /// The number for one more mapping of this object; [`NO_EXE`] if it has no code of a file, its
    /// file is not open, or there are no numbers.
    pub(super) fn acquire(
        &mut self,
        object: &Arc<Object>,
        now: Nanos,
        maps: &mut dyn UnwindMaps,
    ) -> u32 {
        if object.kind == ObjectKind::Anonymous {
            return NO_EXE;
        }
        let Some(number) = self.known(object).or_else(|| self.create(object, now, maps)) else {
            return NO_EXE;
        };
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.references += 1;
            let openable = |object: &Object| object.file.is_some();
            if !slot.object.upgrade().is_some_and(|object| openable(&object)) {
                slot.object = Arc::downgrade(object);
            }
        }
        number
    }

    /// One mapping less.
    pub(super) fn release(&mut self, number: u32, now: Nanos) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.references = slot.references.saturating_sub(1);
            slot.idle_since = now;
        }
    }

    /// Whether the workers have something to do.
    pub(super) fn any_queued(&self) -> bool {
        self.slots.values().any(|slot| slot.state == State::Queued)
    }

    /// What there is to walk by.
    pub(super) fn table(&self, number: u32) -> Table {
        let Some(slot) = self.slots.get(&number) else { return Table::None };
        let (pages, base_page) = (slot.pages, slot.base_page);
        match slot.state {
            State::Present => {
                Table::Present { first_page: pages.first, pages: pages.len, base_page }
            }
            State::Absent | State::Queued => Table::Wanted,
            State::None => Table::None,
        }
    }

    pub(super) fn layout(&self, number: u32) -> Option<&Layout> {
        self.slots.get(&number)?.layout.as_ref()
    }

    /// Whether there is so much room that tables may be made before they are asked for.
    pub(super) fn has_plenty(&self) -> bool {
        self.rows.used() < self.rows.room() / 2 && self.pages.used() < self.pages.room() / 2
    }

    /// The job to make its table, if it has none and may have one.
    pub(super) fn want(
        &mut self,
        number: u32,
        now: Nanos,
        may: impl Fn(&Object) -> bool,
    ) -> Option<Job> {
        let slot = self.slots.get_mut(&number)?;
        if slot.state != State::Absent || now < slot.retry_at {
            return None;
        }
        let object = slot.object.upgrade().filter(|object| may(object))?;
        slot.state = State::Queued;
        let most = Limits::default();
        let limits =
            Limits { rows: most.rows.min(self.room.rows), pages: most.pages.min(self.room.pages) };
        Some(Job { ticket: Ticket { number, user: slot.user }, object, limits })
    }

    /// The queue was full.
    pub(super) fn not_queued(&mut self, number: u32, now: Nanos) {
        self.stats.queue_overflows += 1;
        self.put_off(number, now.plus(RETRY_QUEUE));
    }

    /// Writes a finished table where there is room for it.
    pub(super) fn place(&mut self, done: Done, now: Nanos, maps: &mut dyn UnwindMaps) -> Placed {
        let number = done.ticket.number;
        let is_current = self.slots.get(&number).is_some_and(|slot| slot.user == done.ticket.user);
        let room = match &done.compiled.outcome {
            _ if !is_current => None,
            Outcome::None(_) => Some((Range::default(), Range::default())),
            Outcome::Table(table) => {
                let (rows, pages) = (table.rows.len() as u32, table.pages.len() as u32);
                match self.allocate(rows, pages, now) {
                    Some(room) => Some(room),
                    None if self.make_room(rows, pages, now, maps) => return Placed::Later(done),
                    None => {
                        self.stats.no_room += 1;
                        self.put_off(number, now.plus(RETRY_ROOM));
                        None
                    }
                }
            }
        };
        self.rounds = 0;
        self.stats.compile_time += done.took;
        let slot = self.slots.get_mut(&number);
        let Some(((rows, pages), slot)) = room.zip(slot) else { return Placed::Dropped };
        match done.compiled.outcome {
            Outcome::Table(table) => {
                self.stats.compiled += 1;
                (slot.rows, slot.pages, slot.base_page) = (rows, pages, table.base_page);
                slot.state = State::Present;
                maps.write_rows(rows.first, &table.rows);
                let moved = |page: &Page| Page { first_row: rows.first + page.first_row, ..*page };
                maps.write_pages(pages.first, &Vec::from_iter(table.pages.iter().map(moved)));
            }
            Outcome::None(reason) => {
                self.stats.failed[reason.index()] += 1;
                if !matches!(reason, NoTable::NoFrames | NoTable::Machine) {
                    tracing::debug!(?reason, key = ?slot.key, "no unwind table");
                }
                slot.state = State::None;
            }
        }
        slot.published_at = now;
        let bias_is_new = slot.layout.replace(done.compiled.layout).is_none();
        Placed::Written { number, bias_is_new }
    }

    /// Lets the probes use what was written.
    pub(super) fn reveal(&self, number: u32, maps: &mut dyn UnwindMaps) {
        let Some(slot) = self.slots.get(&number) else { return };
        let mut exe = Exe {
            first_page: slot.pages.first,
            pages: slot.pages.len,
            base_page: slot.base_page,
            ..Exe::default()
        };
        exe.state = match slot.state {
            State::Present => exe_state::PRESENT,
            State::None => exe_state::NONE,
            State::Absent | State::Queued => exe_state::ABSENT,
        };
        maps.write_exe(number, exe);
    }

    /// What is counted here; the rest is left as it is by default.
    pub(super) fn stats(&self) -> UnwindStats {
        let present = self.slots.values().filter(|slot| slot.state == State::Present).count();
        UnwindStats {
            tables: present as u64,
            executables: self.slots.len() as u64,
            rows_used: self.rows.used().into(),
            rows_room: self.rows.room().into(),
            pages_used: self.pages.used().into(),
            pages_room: self.pages.room().into(),
            ..self.stats
        }
    }

    fn known(&self, object: &Object) -> Option<u32> {
        if let Some(key) = Key::of(object) {
            return self.by_key.get(&key).copied();
        }
        // Not open, so that its size is not known: one of the same build will do.
        let same = |key: &Key| matches!(key, Key::Build { id, .. } if *id == object.build_id);
        self.by_key.iter().find(|(key, _)| same(key)).map(|(_, number)| *number)
    }

    fn create(
        &mut self,
        object: &Arc<Object>,
        now: Nanos,
        maps: &mut dyn UnwindMaps,
    ) -> Option<u32> {
        let Some(key) = Key::of(object) else {
            self.stats.not_open += 1;
            return None;
        };
        let Some(number) = self.number(now, maps) else {
            self.stats.no_number += 1;
            return None;
        };
        self.users += 1;
        self.by_key.insert(key.clone(), number);
        let slot = Slot::new(key, self.users, object, now);
        self.slots.insert(number, slot);
        maps.write_exe(number, Exe { state: exe_state::ABSENT, ..Exe::default() });
        Some(number)
    }

    /// A number that nothing refers to.
    fn number(&mut self, now: Nanos, maps: &mut dyn UnwindMaps) -> Option<u32> {
        while let Some(&(since, number)) = self.retired.front()
            && now.since(since) >= QUARANTINE
        {
            self.retired.pop_front();
            self.free.push(number);
        }
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        if self.fresh < self.room.exes {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        let idle = self.slots.iter().filter(|(_, slot)| slot.references == 0);
        let mut idle: Vec<_> = idle.map(|(number, slot)| (slot.idle_since, *number)).collect();
        idle.sort_unstable();
        for (_, number) in idle.into_iter().take(RETIRE_AT_ONCE) {
            self.withdraw(number, now, maps);
            if let Some(slot) = self.slots.remove(&number) {
                self.by_key.remove(&slot.key);
                self.retired.push_back((now, number));
            }
        }
        None
    }

    fn allocate(&mut self, rows: u32, pages: u32, now: Nanos) -> Option<(Range, Range)> {
        let rows = self.rows.allocate(rows, now)?;
        match self.pages.allocate(pages, now) {
            Some(pages) => Some((rows, pages)),
            None => {
                self.rows.cancel(rows);
                None
            }
        }
    }

    /// Takes the room of what was used least recently; whether it is worth waiting for it.
    fn make_room(&mut self, rows: u32, pages: u32, now: Nanos, maps: &mut dyn UnwindMaps) -> bool {
        if self.rows.quarantined() > 0 || self.pages.quarantined() > 0 {
            return true;
        }
        if self.rounds == MAX_ROUNDS {
            return false;
        }
        self.rounds += 1;
        let seconds = |time: Nanos| time.0 >> 30; // As in `Exe::last_used`.
        let oldest = seconds(now.minus(KEEP));
        let mut victims = Vec::new();
        let present = self.slots.iter().filter(|(_, slot)| slot.state == State::Present);
        for (&number, slot) in present {
            let used = u64::from(maps.read_exe(number).last_used).max(seconds(slot.published_at));
            if used < oldest {
                victims.push((used, number));
            }
        }
        victims.sort_unstable();
        let mut victims = victims.into_iter();
        // In the first round the free room counts; if it is in pieces, the next ones take more.
        let mut missing = (rows, pages);
        if self.rounds == 1 {
            missing.0 = rows.saturating_sub(self.rows.room() - self.rows.used());
            missing.1 = pages.saturating_sub(self.pages.room() - self.pages.used());
            missing = (missing.0.max(1), missing.1);
        }
        while (self.rows.quarantined() < missing.0 || self.pages.quarantined() < missing.1)
            && let Some((_, number)) = victims.next()
        {
            self.stats.evicted += 1;
            self.withdraw(number, now, maps);
        }
        self.rows.quarantined() > 0
    }

    /// Takes an executable's table from the probes. Its layout stays known.
    fn withdraw(&mut self, number: u32, now: Nanos, maps: &mut dyn UnwindMaps) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        slot.state = State::Absent;
        let (rows, pages) = (std::mem::take(&mut slot.rows), std::mem::take(&mut slot.pages));
        maps.write_exe(number, Exe { state: exe_state::ABSENT, ..Exe::default() });
        self.rows.free(rows, now);
        self.pages.free(pages, now);
    }

    fn put_off(&mut self, number: u32, until: Nanos) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.state = State::Absent;
            slot.retry_at = until;
        }
    }
}
