//! A door for `tests/fuzz`: a process whose memory may hold anything.
//!
//! It panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use std::io;

use super::build_info::GoVersion;
use super::heap::{self, HeapPlace};
use super::labels::MAX_TEXT;
use super::layout::Layout;
use super::list::MAX_GOROUTINES;
use super::locate::ListPlace;
use super::locks;
use super::memory::{END, Memory, Piece};
use super::target::Target;
use super::walk::{Code, MAX_FRAMES, Place};
use crate::collect::Nanos;

/// The first address of the memory: the length of the list is there, then its pointer.
pub(super) const BASE: u64 = 0x1000;

/// Where the table of locks is, in the same memory as all else.
pub(super) const LOCKS: u64 = BASE + 8;

/// Code in which every frame has some words, and whose last functions are outermost.
pub(super) struct AnyCode;

impl Code for AnyCode {
    fn place(&mut self, pc: u64) -> Option<Place> {
        let into = pc.checked_sub(0x40_0000).filter(|&into| into < 0x1_0000)?;
        let up = (into < 0xff00).then_some(8 + (into & 7) * 8);
        Some(Place { up, is_injected: into & 8 != 0, is_entry: into & 16 != 0 })
    }

    fn is_system(&mut self, start: u64) -> bool {
        start & 1 != 0
    }
}

/// Memory that holds these bytes at [`BASE`], and nothing else.
pub(super) struct AnyMemory<'a>(pub(super) &'a [u8]);

impl Memory for AnyMemory<'_> {
    fn read(&self, pieces: &[Piece], into: &mut Vec<u8>) -> io::Result<Vec<bool>> {
        into.clear();
        let mut are_there = Vec::new();
        for piece in pieces {
            let from = piece.address.checked_sub(BASE).and_then(|from| usize::try_from(from).ok());
            let part = from.and_then(|from| self.0.get(from..)?.get(..piece.len));
            are_there.push(part.is_some());
            match part {
                Some(part) => into.extend(part),
                None => into.resize(into.len() + piece.len, 0),
            }
        }
        Ok(are_there)
    }
}

/// A process of that memory.
pub(super) fn target(minor: u32) -> Option<Target> {
    Some(Target {
        pid: 1,
        version: GoVersion::parse(&format!("go1.{minor}"))?,
        layout: Layout::of(minor)?,
        list: ListPlace { length: BASE, pointer: BASE + 8 },
    })
}

/// The goroutines of a process with this memory; its first byte tells the version.
pub fn goroutines(data: &[u8]) {
    let Some((&first, memory)) = data.split_first() else { return };
    let Some(target) = target(18 + u32::from(first) % 10) else { return };
    let memory = AnyMemory(memory);
    let Ok(mut snapshot) = super::snapshot::read(&target, &memory, AnyCode, Nanos(0)) else {
        return;
    };
    locks::tell(&mut snapshot, &target, &memory, || Ok(Some(LOCKS)));
    assert!(!snapshot.goroutines.is_empty());
    assert!(snapshot.goroutines.len() as u64 <= MAX_GOROUTINES);
    for goroutine in &snapshot.goroutines {
        assert!(goroutine.stack.addresses.len() <= MAX_FRAMES);
        assert!(!goroutine.state.text(&target.version).is_empty());
        let lock = goroutine.lock;
        assert!(lock == 0 || locks::waits_for_lock(goroutine.state, &target.version));
        assert!(lock.is_multiple_of(4) && lock < END);
        for (name, value) in goroutine.labels.iter().flat_map(|labels| labels.texts()) {
            // What is no UTF-8 takes three bytes at the most.
            assert!(name.len() <= 3 * MAX_TEXT && value.len() <= 3 * MAX_TEXT);
        }
    }
}

/// Where that memory has the variables of a heap profile: the rate, the cycle and the newest bucket.
pub(super) const fn heap_place() -> HeapPlace {
    HeapPlace { rate: BASE, cycle: BASE + 8, buckets: BASE + 16 }
}

/// The heap profile of a process with this memory; its first byte tells the version.
pub fn go_heap(data: &[u8]) {
    let Some((&first, memory)) = data.split_first() else { return };
    let Some(target) = target(18 + u32::from(first) % 10) else { return };
    let Ok(found) = heap::read(&target, &heap_place(), &AnyMemory(memory)) else { return };
    assert!(found.rate > 0 && found.buckets.len() <= heap::MAX_BUCKETS);
    // Each has a place of its own in the memory.
    assert!(found.buckets.len() <= memory.len() / 8);
    for bucket in &found.buckets {
        assert!(bucket.stack.len() <= heap::MAX_DEPTH);
        assert!(bucket.counts.in_use() <= bucket.counts.allocs);
    }
}
