//! Huge pages that a process got, of which the sample does not know where they are: the last of the faults
//! that it stands for was another one's, or there was none. They belong to the fault of the process that
//! did get a huge page just before, or else to the next one.
//!
//! Must not: read a clock, or anything of the process.

use std::collections::HashMap;

use holmes_common::limits::{HUGE_PAGES, PAGE_BYTES};

use crate::collect::{Nanos, Observation, What};

/// Processes that have any: those that touch much memory at this moment.
const MAX_PROCESSES: usize = 256;

/// The bits of an address within a huge page.
const WITHIN_HUGE: u64 = HUGE_PAGES * PAGE_BYTES - 1;

/// How far the two may be apart, in nanoseconds. A program that goes on touching huge pages gets the next
/// one within milliseconds; what waits longer was mapped in advance, or written by another process.
const MAX_APART: u64 = 1_000_000_000;

/// By process: what waits, and the last sample of a huge page.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    waiting: HashMap<u32, Waiting>,
    last: HashMap<u32, Observation>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    bytes: u64,
    since: Nanos,
}

impl Unplaced {
    /// Takes a fault sample in. One of a huge page gets what waits for it. Of another one's bytes this makes a
    /// sample of the huge page before; or they wait, and it is left with none.
    pub(super) fn place(&mut self, is_huge: bool, sample: &mut Observation) {
        let (tgid, now) = (sample.tgid, sample.time);
        let What::Fault { bytes, .. } = &mut sample.what else { return };
        if is_huge {
            *bytes = bytes.saturating_add(self.take(tgid, now));
            make_room(&mut self.last, tgid, |last| is_near(last.time, now));
            if self.last.len() < MAX_PROCESSES {
                self.last.insert(tgid, sample.clone());
            }
            return;
        }
        let unplaced = std::mem::take(bytes);
        match self.last.get_mut(&tgid).filter(|last| is_near(last.time, now)) {
            Some(last) => {
                // Each has an address of its own in the huge page: at the same one it would be touched again.
                if let What::Fault { address, .. } = &mut last.what {
                    *address = *address & !WITHIN_HUGE | (*address + PAGE_BYTES) & WITHIN_HUGE;
                }
                *sample = Observation { time: now, ..last.clone() };
                if let What::Fault { bytes, .. } = &mut sample.what {
                    *bytes = unplaced;
                }
            }
            None => self.keep(tgid, unplaced, now),
        }
    }

    /// Keeps bytes; lets go of them where there is no room.
    fn keep(&mut self, tgid: u32, bytes: u64, now: Nanos) {
        let before = self.take(tgid, now);
        make_room(&mut self.waiting, tgid, |waiting| is_near(waiting.since, now));
        if self.waiting.len() < MAX_PROCESSES {
            let bytes = bytes.saturating_add(before);
            self.waiting.insert(tgid, Waiting { bytes, since: now });
        }
    }

    fn take(&mut self, tgid: u32, now: Nanos) -> u64 {
        let waiting = self.waiting.remove(&tgid);
        waiting.filter(|it| is_near(it.since, now)).map_or(0, |it| it.bytes)
    }

    /// The process has ended, or is another program.
    pub(super) fn forget(&mut self, tgid: u32) {
        self.waiting.remove(&tgid);
        self.last.remove(&tgid);
    }
}

/// Takes out the one with this key, and where the map is full those that are not near.
fn make_room<T>(map: &mut HashMap<u32, T>, tgid: u32, is_near: impl Fn(&T) -> bool) {
    map.remove(&tgid);
    if map.len() >= MAX_PROCESSES {
        map.retain(|_, it| is_near(it));
    }
}

/// Records of different CPUs may come out of order.
fn is_near(before: Nanos, now: Nanos) -> bool {
    now.0.saturating_sub(before.0) <= MAX_APART
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::collect::{CgroupId, Comm, Memory, Stack, Walk};

    const MS: u64 = 1_000_000;

    fn sample(tgid: u32, ms: u64, address: u64, bytes: u64) -> Observation {
        Observation {
            time: Nanos(ms * MS),
            tgid,
            tid: tgid,
            cgroup: CgroupId(1),
            comm: Comm::new(*b"touching\0\0\0\0\0\0\0\0"),
            cpu: 0,
            flags: 0,
            walk: Walk::default(),
            stack: Arc::new(Stack { user: [address].into(), kernel: [].into() }),
            what: What::Fault { address, bytes, memory: Memory::AnonymousHuge },
        }
    }

    /// What became of a sample: its place and bytes.
    fn placed(unplaced: &mut Unplaced, is_huge: bool, mut sample: Observation) -> (u64, u64) {
        unplaced.place(is_huge, &mut sample);
        let What::Fault { address, bytes, .. } = sample.what else { unreachable!() };
        // An address in the huge page that the stack was found at.
        assert_eq!(sample.stack.user[0] >> 21, address >> 21);
        (address, bytes)
    }

    #[test]
    fn what_waits_goes_to_the_next_one_of_the_same_process() {
        let mut all = Unplaced::default();
        assert_eq!(placed(&mut all, false, sample(7, 0, 1, 100)), (1, 0));
        assert_eq!(placed(&mut all, false, sample(7, 1, 2, 20)), (2, 0));
        assert_eq!(placed(&mut all, true, sample(8, 1, 3, 5)), (3, 5));
        assert_eq!(placed(&mut all, true, sample(7, 2, 4, 5)), (4, 125));
        assert_eq!(placed(&mut all, true, sample(7, 3, 5, 5)), (5, 5));
    }

    #[test]
    fn what_comes_just_after_goes_to_the_one_before() {
        let mut all = Unplaced::default();
        assert_eq!(placed(&mut all, true, sample(7, 0, 4, 5)), (4, 5));
        assert_eq!(placed(&mut all, false, sample(7, 9, 0, 30)), (4 + 4096, 30));
        assert_eq!(placed(&mut all, false, sample(7, 9, 0, 2)), (4 + 2 * 4096, 2));
        let end = (6 << 20) - 4096;
        assert_eq!(placed(&mut all, true, sample(9, 9, end, 5)), (end, 5));
        assert_eq!(placed(&mut all, false, sample(9, 9, 0, 5)), (4 << 20, 5));
        assert_eq!(placed(&mut all, false, sample(8, 9, 1, 30)), (1, 0));
        all.forget(7);
        assert_eq!(placed(&mut all, false, sample(7, 10, 2, 30)), (2, 0));
    }

    #[test]
    fn what_is_far_apart_is_nobodys() {
        let mut all = Unplaced::default();
        placed(&mut all, false, sample(7, 0, 1, 100));
        assert_eq!(placed(&mut all, true, sample(7, 1100, 4, 5)), (4, 5));
        assert_eq!(placed(&mut all, false, sample(7, 2200, 2, 9)), (2, 0));
    }

    #[test]
    fn there_is_room_for_so_many_at_the_same_time() {
        let mut all = Unplaced::default();
        let processes = MAX_PROCESSES as u32;
        for tgid in 0..=processes {
            placed(&mut all, false, sample(tgid, 0, 1, 1));
        }
        assert_eq!(placed(&mut all, true, sample(processes, 1, 4, 5)), (4, 5));
        assert_eq!(placed(&mut all, true, sample(0, 1, 4, 5)), (4, 6));
        for tgid in 0..2 * processes {
            placed(&mut all, true, sample(tgid, 2000 + 5 * u64::from(tgid), 4, 5));
        }
        assert!(all.last.len() <= MAX_PROCESSES && all.waiting.len() <= MAX_PROCESSES);
    }
}
