//! Huge pages that a process got, of which the sample does not know where they are: the last of the faults
//! that it stands for was another one's. They belong to the next fault of the process that did get a huge
//! page, soon after.
//!
//! Must not: read a clock, or anything of the process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::collect::Nanos;

/// Processes that have any: those that touch much memory at this moment.
const MAX_PROCESSES: usize = 256;

/// How long they may wait. A program that goes on touching huge pages gets the next one within
/// milliseconds; what waits longer was mapped in advance, or written by another process.
const MAX_WAIT: Nanos = Nanos(250_000_000);

/// Bytes that wait, by process.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    waiting: HashMap<u32, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    bytes: u64,
    last: Nanos,
}

impl Unplaced {
    /// Keeps bytes of a process that has got them by `now`. Those that nobody has asked for in time are
    /// let go of, and these where there is no room.
    pub(super) fn keep(&mut self, tgid: u32, bytes: u64, now: Nanos) {
        if self.waiting.len() >= MAX_PROCESSES && !self.waiting.contains_key(&tgid) {
            self.waiting.retain(|_, waiting| waiting.is_fresh(now));
            if self.waiting.len() >= MAX_PROCESSES {
                return;
            }
        }
        match self.waiting.entry(tgid) {
            Entry::Occupied(mut entry) if entry.get().is_fresh(now) => {
                let waiting = entry.get_mut();
                waiting.bytes = waiting.bytes.saturating_add(bytes);
                waiting.last = now;
            }
            entry => {
                entry.insert_entry(Waiting { bytes, last: now });
            }
        }
    }

    /// Takes what waits for a process that has got a huge page.
    pub(super) fn take(&mut self, tgid: u32, now: Nanos) -> u64 {
        self.waiting.remove(&tgid).filter(|it| it.is_fresh(now)).map_or(0, |it| it.bytes)
    }

    /// The process has ended, or is another program.
    pub(super) fn forget(&mut self, tgid: u32) {
        self.waiting.remove(&tgid);
    }
}

impl Waiting {
    fn is_fresh(&self, now: Nanos) -> bool {
        // Records of different CPUs may come out of order.
        now.0.saturating_sub(self.last.0) <= MAX_WAIT.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_waits_goes_to_the_next_one_of_the_same_process() {
        let mut unplaced = Unplaced::default();
        unplaced.keep(7, 100, Nanos(0));
        unplaced.keep(7, 20, Nanos(MS));
        unplaced.keep(8, 3, Nanos(MS));
        assert_eq!(unplaced.take(9, Nanos(MS)), 0);
        assert_eq!(unplaced.take(7, Nanos(2 * MS)), 120);
        assert_eq!(unplaced.take(7, Nanos(2 * MS)), 0);
        unplaced.forget(8);
        assert_eq!(unplaced.take(8, Nanos(2 * MS)), 0);
    }

    #[test]
    fn what_waits_too_long_is_nobodys() {
        let mut unplaced = Unplaced::default();
        unplaced.keep(7, 100, Nanos(0));
        assert_eq!(unplaced.take(7, Nanos(300 * MS)), 0);
        unplaced.keep(7, 100, Nanos(0));
        unplaced.keep(7, 20, Nanos(300 * MS));
        assert_eq!(unplaced.take(7, Nanos(301 * MS)), 20);
    }

    #[test]
    fn there_is_room_for_so_many_at_the_same_time() {
        let mut unplaced = Unplaced::default();
        for tgid in 0..=MAX_PROCESSES as u32 {
            unplaced.keep(tgid, 1, Nanos(0));
        }
        assert_eq!(unplaced.take(MAX_PROCESSES as u32, Nanos(0)), 0);
        assert_eq!(unplaced.take(0, Nanos(0)), 1);
        let late = MAX_PROCESSES as u32 + 1;
        unplaced.keep(late, 1, Nanos(0));
        unplaced.keep(late + 1, 5, Nanos(300 * MS));
        assert_eq!(unplaced.take(late + 1, Nanos(300 * MS)), 5);
        assert_eq!(unplaced.waiting.len(), 0);
    }
}
