//! Ranges of the rows and pages of all tables: which are free, which are taken.
//!
//! Must not: know what is in them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::collect::Nanos;

/// How long a range that was given back is left alone: a walk that found it before has ended by
/// then. A walk takes microseconds; a virtual machine may be held up in the midst of one.
pub(super) const QUARANTINE: Duration = Duration::from_secs(2);

/// A range of rows or of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) len: u32,
}

/// All rows, or all pages. Its own memory is bounded by the number of tables.
#[derive(Debug)]
pub(super) struct Space {
    room: u32,
    /// First index to length, none next to another.
    free: BTreeMap<u32, u32>,
    /// The earliest first.
    quarantined: VecDeque<(Nanos, Range)>,
    free_len: u32,
    quarantined_len: u32,
}

impl Space {
    pub(super) fn new(room: u32) -> Self {
        let free = if room > 0 { BTreeMap::from([(0, room)]) } else { BTreeMap::new() };
        Self { room, free, quarantined: VecDeque::new(), free_len: room, quarantined_len: 0 }
    }

    pub(super) fn room(&self) -> u32 {
        self.room
    }

    /// In tables; what is in quarantine is not.
    pub(super) fn used(&self) -> u32 {
        self.room - self.free_len - self.quarantined_len
    }

    pub(super) fn quarantined(&self) -> u32 {
        self.quarantined_len
    }

    /// The first free range of this length; `None` if there is none so long.
    pub(super) fn allocate(&mut self, len: u32, now: Nanos) -> Option<Range> {
        self.release(now);
        if len == 0 {
            return Some(Range::default());
        }
        let (&first, &room) = self.free.iter().find(|&(_, &room)| room >= len)?;
        self.free.remove(&first);
        if room > len {
            self.free.insert(first + len, room - len);
        }
        self.free_len -= len;
        Some(Range { first, len })
    }

    /// Gives back an allocated range.
    pub(super) fn free(&mut self, range: Range, now: Nanos) {
        if range.len > 0 {
            self.quarantined.push_back((now, range));
            self.quarantined_len += range.len;
        }
    }

    /// Gives back a range that nothing has led to yet.
    pub(super) fn cancel(&mut self, range: Range) {
        if range.len > 0 {
            self.join(range);
        }
    }

    fn release(&mut self, now: Nanos) {
        while let Some(&(since, range)) = self.quarantined.front()
            && now.since(since) >= QUARANTINE
        {
            self.quarantined.pop_front();
            self.quarantined_len -= range.len;
            self.join(range);
        }
    }

    fn join(&mut self, Range { mut first, mut len }: Range) {
        self.free_len += len;
        if let Some((&before, &before_len)) = self.free.range(..first).next_back()
            && before + before_len == first
        {
            (first, len) = (before, before_len + len);
        }
        if let Some(after_len) = self.free.remove(&(first + len)) {
            len += after_len;
        }
        self.free.insert(first, len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_only_after_a_while() {
        let mut space = Space::new(10);
        let first = space.allocate(6, Nanos::from_secs(0)).unwrap();
        space.free(first, Nanos::from_secs(1));
        assert_eq!((space.used(), space.quarantined()), (0, 6));
        assert_eq!(space.allocate(6, Nanos::from_secs(2)), None);
        assert_eq!(space.allocate(10, Nanos::from_secs(3)), Some(Range { first: 0, len: 10 }));
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_nothing_is_lost(
            steps in proptest::collection::vec((any::<bool>(), 0_u32..40, 0_u64..3), 1..200),
        ) {
            let mut space = Space::new(100);
            let (mut taken, mut now): (Vec<Range>, u64) = (Vec::new(), 0);
            for (take, number, seconds) in steps {
                now += seconds;
                let at = Nanos::from_secs(now);
                if take {
                    if let Some(range) = space.allocate(number, at) {
                        prop_assert!(range.first + range.len <= 100);
                        for other in taken.iter().filter(|_| range.len > 0) {
                            let apart = range.first + range.len <= other.first
                                || other.first + other.len <= range.first;
                            prop_assert!(apart, "{range:?} {other:?}");
                        }
                        taken.push(range);
                    }
                } else if !taken.is_empty() {
                    space.free(taken.swap_remove(number as usize % taken.len()), at);
                }
                prop_assert_eq!(space.used(), taken.iter().map(|range| range.len).sum::<u32>());
            }
            for range in taken {
                space.free(range, Nanos::from_secs(now));
            }
            let all = Range { first: 0, len: 100 };
            prop_assert_eq!(space.allocate(100, Nanos::from_secs(now + 2)), Some(all));
        }
    }
}
