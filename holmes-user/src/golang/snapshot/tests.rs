//! Goroutines in memory that a test made up.

use proptest::prelude::*;

use super::super::fuzzing::{AnyCode, AnyMemory, BASE, target};
use super::super::goroutine::State;
use super::super::record::tests::bytes;
use super::*;

/// Where the records begin, and how far they are apart.
const RECORDS: u64 = BASE + 0x1000;
const RECORD: u64 = 0x200;
/// A function with frames of two words, and the outermost one.
const PLAIN: u64 = 0x40_0021;
const OUTERMOST: u64 = 0x40_ff01;

/// A process's memory, with records of these states, numbers, stack pointers and addresses.
fn memory(records: &[(u32, u64, u64, u64)]) -> Vec<u8> {
    let mut memory = vec![0; 0x8000];
    let put = |memory: &mut Vec<u8>, at: u64, bytes: &[u8]| {
        let at = (at - BASE) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(&mut memory, BASE, &(records.len() as u64).to_le_bytes());
    put(&mut memory, BASE + 8, &(BASE + 16).to_le_bytes());
    for (index, &(status, id, sp, pc)) in (0u64..).zip(records) {
        let record = RECORDS + index * RECORD;
        put(&mut memory, BASE + 16 + index * 8, &record.to_le_bytes());
        put(&mut memory, record, &bytes(status, id, sp, pc));
    }
    memory
}

fn snapshot(memory: &[u8]) -> Result<Snapshot, GoError> {
    read(&target(26).unwrap(), &AnyMemory(memory), AnyCode, Nanos(5))
}

#[test]
fn goroutines_with_their_stacks() {
    // Each stack has a page of its own.
    let stack = |page: u64| BASE + 0x3000 + page * 0x1000 + 0x100;
    let records =
        [(4, 1, stack(0), PLAIN), (6, 2, 0, 0), (2, 3, stack(1), 0), (3, 4, stack(2), PLAIN)];
    let mut memory = memory(&records);
    let mut word = |at: u64, value: u64| {
        let at = (at - BASE) as usize;
        memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    // The first one's frame has two words, as its address says: the upper one is the return address.
    word(stack(0) + 8, OUTERMOST);
    // Of a system call the record has another stack pointer and address, one further each.
    word(stack(2) + 8 + 16, OUTERMOST);
    let snapshot = snapshot(&memory).unwrap();
    let found: Vec<_> = snapshot
        .goroutines
        .iter()
        .map(|it| (it.id, it.state, it.stack.end, it.stack.addresses.to_vec()))
        .collect();
    assert_eq!(
        found,
        [
            (1, State::Waiting(19), StackEnd::Whole, vec![PLAIN, OUTERMOST]),
            (3, State::Running, StackEnd::Unknown, vec![1]),
            (4, State::Syscall, StackEnd::Whole, vec![PLAIN + 1, OUTERMOST]),
        ]
    );
    assert_eq!((snapshot.unread, snapshot.system), (0, 0));
}

#[test]
fn what_is_no_list_of_goroutines_is_refused() {
    let refused = |memory: &[u8], part: &str| {
        let error = snapshot(memory).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&[], "not in memory");
    refused(&[0; 64], "no goroutines");
    refused(&[0xff; 64], "too long");
    refused(&memory(&[(6, 1, 0, 0); 3]), "none of them is alive");
    refused(&memory(&[(77, 1, BASE + 0x3100, PLAIN); 9]), "none of them is alive");
    let mut some = vec![(77, 9, BASE + 0x3100, PLAIN); 9];
    some.push((2, 1, BASE + 0x3100, PLAIN));
    refused(&memory(&some), "a state, a stack or a reason");
    refused(&memory(&[(4, 1, BASE + 0x3100, 0x77)]), "outside the program's code");
    refused(&memory(&[(2, 7, BASE + 0x3100, PLAIN); 9]), "the same number");
}

#[test]
fn a_stack_without_an_outermost_function_has_an_end() {
    // Each frame leads to another one, to the end of the page.
    let sp = BASE + 0x3010;
    let mut memory = memory(&[(4, 1, sp, PLAIN)]);
    for at in (0x3010..0x4000).step_by(8) {
        memory[at..at + 8].copy_from_slice(&PLAIN.to_le_bytes());
    }
    let snapshot = snapshot(&memory).unwrap();
    let stack = &snapshot.goroutines[0].stack;
    assert_eq!((stack.end, stack.addresses.len()), (StackEnd::Broken, 0xff0 / 16 + 1));
}

proptest! {
    #[test]
    fn no_memory_panics(
        changes in proptest::collection::vec((0usize..0x2000, any::<u8>()), 0..60),
        statuses in proptest::collection::vec(0u32..12, 1..8),
    ) {
        let records: Vec<_> = statuses
            .iter()
            .enumerate()
            .map(|(index, &status)| (status, index as u64 + 1, BASE + 0x3100, PLAIN))
            .collect();
        let mut data = vec![8];
        data.extend(memory(&records));
        for (at, value) in changes {
            data[at] = value;
        }
        super::super::fuzzing::goroutines(&data);
    }
}
