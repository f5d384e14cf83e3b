//! A heap profile in memory that a test made up.

use proptest::prelude::*;

use super::super::fuzzing::{AnyMemory, BASE, heap_place, target};
use super::list::read;
use super::*;

/// Where buckets begin, and how far they are apart.
const BUCKETS: u64 = BASE + 0x1000;
const BUCKET: u64 = 0x200;

/// A profile's memory: of buckets with these stacks and counts, the newest first; each count is told, or
/// belongs to one of the three cycles.
fn memory(version: u32, cycle: u32, buckets: &[(&[u64], [u64; 4])]) -> Vec<u8> {
    let mut memory = vec![0; 0x4000];
    let mut put = |at: u64, value: u64| {
        let at = (at - BASE) as usize;
        memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    put(BASE, 512 << 10);
    put(BASE + 8, u64::from(if version < 19 { cycle } else { cycle << 1 | 1 }));
    put(BASE + 16, if buckets.is_empty() { 0 } else { BUCKETS });
    for (number, (stack, counts)) in (0u64..).zip(buckets) {
        let at = BUCKETS + number * BUCKET;
        let is_last = number + 1 == buckets.len() as u64;
        put(at + 8, if is_last { 0 } else { at + BUCKET });
        put(at + 16, 1);
        put(at + 24, hash(stack, 1024));
        put(at + 32, 1024);
        put(at + 40, stack.len() as u64);
        for (place, address) in (0u64..).zip(*stack) {
            put(at + 48 + place * 8, *address);
        }
        let record = at + 48 + stack.len() as u64 * 8;
        for (set, allocs) in (0u64..).zip(counts) {
            let words = [*allocs, allocs / 2, allocs * 1024, allocs / 2 * 1024];
            // Since Go 1.27 without the bytes.
            let words = if version < 27 { &words[..] } else { &words[..2] };
            let at = record + set * words.len() as u64 * 8;
            words.iter().zip(0u64..).for_each(|(word, place)| put(at + place * 8, *word));
        }
    }
    memory
}

/// The runtime's hash of a stack and a size.
fn hash(stack: &[u64], size: u64) -> u64 {
    let mut hash = 0u64;
    for value in stack.iter().chain([&size]) {
        hash = hash.wrapping_add(*value);
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^ (hash >> 11)
}

/// Stacks, with allocations and frees.
fn told(version: u32, memory: &[u8]) -> Result<Vec<(Vec<u64>, u64, u64)>, GoError> {
    let found = read(&target(version).unwrap(), &heap_place(), &AnyMemory(memory))?;
    assert_eq!((found.rate, found.is_cut), (512 << 10, false));
    for HeapBucket { counts, .. } in &found.buckets {
        let bytes = (counts.alloc_bytes, counts.free_bytes);
        assert_eq!(bytes, (counts.allocs * 1024, counts.frees * 1024), "each has 1024 bytes");
    }
    let buckets = found.buckets.iter();
    Ok(buckets.map(|it| (it.stack.to_vec(), it.counts.allocs, it.counts.frees)).collect())
}

#[test]
fn what_the_program_would_tell_itself() {
    // What is told, and what each of three cycles has.
    let buckets: [(&[u64], _); 2] = [(&[7, 8, 9], [100, 20, 40, 60]), (&[7], [0, 2, 4, 6])];
    for version in [18, 19, 26, 27] {
        for (cycle, first, second) in [(0, 120, 2), (1, 140, 4), (2, 160, 6), (3, 120, 2)] {
            let told = told(version, &memory(version, cycle, &buckets)).unwrap();
            let expected = [(vec![7, 8, 9], first, first / 2), (vec![7], second, second / 2)];
            assert_eq!(told, expected, "{version} {cycle}");
        }
    }
    assert!(told(26, &memory(26, 5, &[])).unwrap().is_empty(), "nothing was sampled yet");
}

#[test]
fn before_the_first_collection_all_is_told() {
    let told = told(26, &memory(26, 0, &[(&[7], [0, 0, 4, 6]), (&[8], [0, 0, 0, 2])])).unwrap();
    assert_eq!(told, [(vec![7], 10, 5), (vec![8], 2, 1)]);
}

#[test]
fn what_is_no_heap_profile_is_refused() {
    let refused = |memory: &[u8], part: &str| {
        let error = told(26, memory).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&[], "not in memory");
    refused(&[0; 64], "MemProfileRate");
    refused(&[0x7f; 64], "no rate");
    let good = memory(26, 0, &[(&[7, 8], [2, 0, 0, 0]), (&[9], [2, 0, 0, 0])]);
    let changed = |at: u64, value: u64, part: &str| {
        let mut memory = good.clone();
        let at = (at - BASE) as usize;
        memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
        refused(&memory, part);
    };
    changed(BASE + 16, 3, "leads nowhere");
    changed(BASE + 16, 1 << 50, "leads nowhere");
    changed(BASE + 16, 1 << 40, "a part of its heap profile");
    changed(BUCKETS + 8, BUCKETS, "leads back");
    changed(BUCKETS + 16, 2, "something else");
    changed(BUCKETS + 40, 1025, "something else");
    changed(BUCKETS + 40, 1, "another one's");
    changed(BUCKETS + 48, 6, "another one's");
    // One whose counts would lie behind the end of what is mapped.
    let mut memory = good.clone();
    let (at, end) = (BUCKETS + 8 - BASE, BASE + 0x4000 - 0x40);
    memory[at as usize..at as usize + 8].copy_from_slice(&end.to_le_bytes());
    let from = (end - BASE) as usize;
    memory[from + 16] = 1;
    memory[from + 24..from + 32].copy_from_slice(&hash(&[], 0).to_le_bytes());
    refused(&memory, "a part of its heap profile");
}

proptest! {
    #[test]
    fn no_memory_panics(
        changes in proptest::collection::vec((0usize..0x2000, any::<u8>()), 0..20),
        version: u8,
    ) {
        let mut data = vec![version];
        data.extend(memory(26, 1, &[(&[7, 8], [2, 4, 6, 8]), (&[9], [2, 0, 0, 0])]));
        for (at, value) in changes {
            data[at] = value;
        }
        super::super::fuzzing::go_heap(&data);
    }
}
