//! Locks in memory that a test made up.

use proptest::prelude::*;

use super::super::fuzzing::{AnyCode, AnyMemory, BASE, target};
use super::super::record::tests::bytes;
use super::super::snapshot;
use super::*;
use crate::collect::Nanos;

/// Where things are in the memory.
const RECORDS: u64 = BASE + 0x1000;
const TABLE: u64 = BASE + 0x8000;
const SUDOGS: u64 = BASE + 0x1_0000;
const MUTEX: u64 = BASE + 0xff04;
const SIZE: usize = 0x1_2000;
/// `sync.Mutex.Lock` and `chan receive` of Go 1.26.
const LOCKS: u8 = 22;
const RECEIVES: u8 = 19;

/// A process of Go 1.26 with so many goroutines that wait for locks.
struct Process(Vec<u8>);

impl Process {
    fn new(count: u64) -> Self {
        let mut process = Self(vec![0; SIZE]);
        process.word(BASE, count);
        process.word(BASE + 8, BASE + 16);
        for number in 0..count {
            process.word(BASE + 16 + number * 8, record(number));
            // A page for all their stacks.
            let bytes = bytes(4, number + 1, BASE + 0x7100, 0x40_0021);
            let at = (record(number) - BASE) as usize;
            process.0[at..at + bytes.len()].copy_from_slice(&bytes);
            process.reason(number, LOCKS);
        }
        process
    }

    fn word(&mut self, at: u64, value: u64) {
        let at = (at - BASE) as usize;
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn reason(&mut self, number: u64, reason: u8) {
        let at = (record(number) - BASE) as usize;
        self.0[at + target(26).unwrap().layout.wait_reason] = reason;
    }

    /// The entry of a goroutine that waits for a lock: those behind and before it in the tree, and the next
    /// one for the same lock.
    fn waits(&mut self, number: u64, lock: u64, [next, prev, same]: [u64; 3]) {
        let at = sudog(number);
        for (offset, value) in
            [(0, record(number)), (8, next), (16, prev), (24, 0), (32, lock), (72, same)]
        {
            self.word(at + offset, value);
        }
    }

    /// What is at a lock's place in the table.
    fn tree(&mut self, lock: u64, node: u64) {
        self.word(TABLE + lock / 8 % ROOTS * ROOT + TREE, node);
    }

    /// The locks of all, and of how many none is known.
    fn told(&self) -> (Vec<u64>, usize) {
        let (target, memory) = (target(26).unwrap(), AnyMemory(&self.0));
        let mut snapshot = snapshot::read(&target, &memory, AnyCode, Nanos(5)).unwrap();
        tell(&mut snapshot, &target, &memory, || Ok(Some(TABLE)));
        let locks = snapshot.goroutines.iter().map(|goroutine| goroutine.lock);
        (locks.collect(), snapshot.without_lock)
    }
}

fn record(number: u64) -> u64 {
    RECORDS + number * 0x200
}

fn sudog(number: u64) -> u64 {
    SUDOGS + number * 0x80
}

/// Three goroutines that wait for one lock, and one that waits for another in the same place.
fn four() -> Process {
    let mut process = Process::new(4);
    process.tree(MUTEX, sudog(0));
    process.waits(0, MUTEX, [sudog(3), 0, sudog(1)]);
    process.waits(1, MUTEX, [0, 0, sudog(2)]);
    process.waits(2, MUTEX, [0; 3]);
    process.waits(3, MUTEX + 8 * ROOTS, [0; 3]);
    process
}

const FOUR: [u64; 4] = [MUTEX, MUTEX, MUTEX, MUTEX + 8 * ROOTS];

#[test]
fn who_waits_for_which_lock() {
    assert_eq!(four().told(), (FOUR.to_vec(), 0));
    // Others are in the table that are not in the snapshot: those behind them are found.
    let mut process = four();
    process.word(BASE, 2);
    process.word(BASE + 16 + 8, record(3));
    assert_eq!(process.told(), (vec![FOUR[0], FOUR[3]], 0));
}

#[test]
fn only_one_that_waits_for_a_lock_has_one() {
    let mut process = four();
    process.reason(1, RECEIVES);
    assert_eq!(process.told(), (vec![MUTEX, 0, MUTEX, FOUR[3]], 0));
    let (target, memory) = (target(26).unwrap(), AnyMemory(&process.0));
    let mut earlier = snapshot::read(&target, &memory, AnyCode, Nanos(5)).unwrap();
    // It has run since, and waits again.
    let mut later = process.0.clone();
    later[(record(2) - BASE) as usize + target.layout.stops] += 1;
    tell(&mut earlier, &target, &AnyMemory(&later), || Ok(Some(TABLE)));
    let locks: Vec<u64> = earlier.goroutines.iter().map(|goroutine| goroutine.lock).collect();
    assert_eq!((locks, earlier.without_lock), (vec![MUTEX, 0, 0, FOUR[3]], 1));
}

#[test]
fn without_a_table_there_are_no_locks() {
    let process = four();
    let (target, memory) = (target(26).unwrap(), AnyMemory(&process.0));
    let mut snapshot = snapshot::read(&target, &memory, AnyCode, Nanos(5)).unwrap();
    for table in [None, Some(END - 8), Some(u64::MAX)] {
        tell(&mut snapshot, &target, &memory, || Ok(table));
        assert_eq!(snapshot.without_lock, 4);
    }
    tell(&mut snapshot, &target, &memory, || Err(GoError::Processor));
    assert_eq!(snapshot.without_lock, 4);
    assert!(snapshot.to_string().contains("of 4 it is not known"), "{snapshot}");
}

#[test]
fn a_table_that_leads_in_circles_or_nowhere_ends() {
    let changed = |at: u64, value: u64| {
        let mut process = four();
        process.word(at, value);
        process.told()
    };
    // The list, and the tree, lead back to what was told before: one entry that is met twice is not believed.
    assert_eq!(changed(sudog(2) + 72, sudog(1)), (vec![MUTEX, 0, MUTEX, FOUR[3]], 1));
    assert_eq!(changed(sudog(3) + 8, sudog(0)), (vec![0, MUTEX, MUTEX, FOUR[3]], 1));
    // One is another's entry, or none; what is only behind it is not found.
    assert_eq!(changed(sudog(1), record(0)), (vec![0, 0, 0, FOUR[3]], 3));
    for nowhere in [8, 0xffff, sudog(1) + 4, END, u64::MAX - 7, BASE + SIZE as u64 - 8] {
        assert_eq!(
            changed(sudog(0) + 72, nowhere),
            (vec![MUTEX, 0, 0, FOUR[3]], 2),
            "{nowhere:#x}"
        );
    }
    // A lock that is not the list's, is in another place of the table, or cannot be one.
    assert_eq!(changed(sudog(1) + 32, MUTEX + 8 * ROOTS), (vec![MUTEX, 0, 0, FOUR[3]], 2));
    for lock in [MUTEX + 8, 0, MUTEX + 1, END + MUTEX, u64::MAX] {
        assert_eq!(changed(sudog(3) + 32, lock), (vec![MUTEX, MUTEX, MUTEX, 0], 1), "{lock:#x}");
    }
}

/// Nobody's entries, each of another goroutine: they are endless, and reading them is not.
#[test]
fn an_endless_list_is_cut() {
    struct Endless<'a>(AnyMemory<'a>, std::cell::Cell<usize>);
    impl Memory for Endless<'_> {
        fn read(&self, pieces: &[Piece], into: &mut Vec<u8>) -> std::io::Result<Vec<bool>> {
            let &[Piece { address, len: 4096 }] = pieces else { return self.0.read(pieces, into) };
            self.1.set(self.1.get() + 1);
            into.clear();
            into.resize(4096, 0);
            for (offset, value) in [(0, address), (32, MUTEX), (72, address + 4096)] {
                into[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
            }
            Ok(vec![true])
        }
    }
    let mut process = four();
    process.tree(MUTEX, 1 << 32);
    let target = target(26).unwrap();
    let memory = Endless(AnyMemory(&process.0), Default::default());
    let mut snapshot = snapshot::read(&target, &memory, AnyCode, Nanos(5)).unwrap();
    tell(&mut snapshot, &target, &memory, || Ok(Some(TABLE)));
    assert_eq!((snapshot.without_lock, memory.1.get()), (4, MAX_VISITS));
}

proptest! {
    #[test]
    fn no_table_panics(changes in proptest::collection::vec((0u64..4, 0usize..6, 0u64..8), 0..20)) {
        let mut process = four();
        let values = [0, sudog(0), sudog(1), sudog(2), sudog(3), MUTEX, record(0), u64::MAX];
        for (number, field, value) in changes {
            let offset = [0, 8, 16, 32, 72, 24][field];
            process.word(sudog(number) + offset, values[value as usize]);
        }
        let (locks, without) = process.told();
        prop_assert_eq!(locks.iter().filter(|&&lock| lock == 0).count(), without);
    }
}
