//! How many observations each second of the window kept and lost, by kind and cause.
//!
//! Must not: know stacks. Counts outlive the bucket they are about until its second leaves the
//! window, so that an incident can say what is missing in its span.

use std::collections::BTreeMap;

use super::cut::ProfileKind;
use super::sample::Fate;

/// One count for each kind of profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerKind {
    /// CPU samples.
    pub cpu: u64,
    /// Calls that gained address space.
    pub mmap: u64,
    /// Threads created.
    pub threads: u64,
    /// Page faults sampled.
    pub memory: u64,
    /// Waits that began.
    pub blocked: u64,
    /// Sampled allocations: none, as they have a ledger of their own.
    pub allocations: u64,
    /// Goroutines: none, as they are read where they are.
    pub goroutines: u64,
    /// Allocations that Go programs have sampled: none, likewise.
    pub go_heap: u64,
}

impl PerKind {
    /// The count of a kind.
    pub const fn of(&self, kind: ProfileKind) -> u64 {
        match kind {
            ProfileKind::Cpu => self.cpu,
            ProfileKind::Mmap => self.mmap,
            ProfileKind::Threads => self.threads,
            ProfileKind::Memory => self.memory,
            ProfileKind::Blocked => self.blocked,
            ProfileKind::Allocations => self.allocations,
            ProfileKind::Goroutines => self.goroutines,
            ProfileKind::GoHeap => self.go_heap,
        }
    }

    fn of_mut(&mut self, kind: ProfileKind) -> &mut u64 {
        match kind {
            ProfileKind::Cpu => &mut self.cpu,
            ProfileKind::Mmap => &mut self.mmap,
            ProfileKind::Threads => &mut self.threads,
            ProfileKind::Memory => &mut self.memory,
            ProfileKind::Blocked => &mut self.blocked,
            ProfileKind::Allocations => &mut self.allocations,
            ProfileKind::Goroutines => &mut self.goroutines,
            ProfileKind::GoHeap => &mut self.go_heap,
        }
    }

    fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.mmap += other.mmap;
        self.threads += other.threads;
        self.memory += other.memory;
        self.blocked += other.blocked;
        self.allocations += other.allocations;
        self.goroutines += other.goroutines;
        self.go_heap += other.go_heap;
    }
}

/// What became of the observations of a span of time. Every profiled observation of it is in
/// exactly one of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanTally {
    /// In the window.
    pub held: PerKind,
    /// Lost: fell out early to stay under the memory cap.
    pub evicted: PerKind,
    /// Lost: the stack was new and no more fit.
    pub stacks_full: PerKind,
    /// Lost: arrived after its second had left the window.
    pub late: PerKind,
}

impl SpanTally {
    pub(super) fn count(&mut self, kind: ProfileKind, fate: Fate) {
        let counts = match fate {
            Fate::Held => &mut self.held,
            Fate::Evicted => &mut self.evicted,
            Fate::StacksFull => &mut self.stacks_full,
            Fate::Late => &mut self.late,
            Fate::NotProfiled => return,
        };
        *counts.of_mut(kind) += 1;
    }

    fn add(&mut self, other: &Self) {
        self.held.add(other.held);
        self.evicted.add(other.evicted);
        self.stacks_full.add(other.stacks_full);
        self.late.add(other.late);
    }

    /// What was held is evicted; returns how much.
    fn evict(&mut self) -> PerKind {
        let gone = std::mem::take(&mut self.held);
        self.evicted.add(gone);
        gone
    }
}

/// Owner of the counts of every second in the window. Bounded by the window's span.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    seconds: BTreeMap<u64, SpanTally>,
    /// Since the start, by the fate at the door.
    total: SpanTally,
    /// Since the start, what had been held and was evicted early.
    evicted_later: PerKind,
}

impl Tallies {
    pub(super) fn count(&mut self, second: u64, kind: ProfileKind, fate: Fate) {
        self.total.count(kind, fate);
        // What came too late belongs to no second that is still here.
        if fate != Fate::Late {
            self.seconds.entry(second).or_default().count(kind, fate);
        }
    }

    /// The bucket of this second fell out early.
    pub(super) fn evict(&mut self, second: u64) {
        if let Some(tally) = self.seconds.get_mut(&second) {
            let gone = tally.evict();
            self.evicted_later.add(gone);
        }
    }

    /// Forgets the seconds before this one.
    pub(super) fn expire(&mut self, oldest: u64) {
        while let Some(entry) = self.seconds.first_entry() {
            if *entry.key() >= oldest {
                break;
            }
            entry.remove();
        }
    }

    pub(super) fn total(&self) -> SpanTally {
        self.total
    }

    pub(super) fn evicted_later(&self) -> PerKind {
        self.evicted_later
    }

    /// The sum over the seconds `from..to`.
    pub(super) fn span(&self, from: u64, to: u64) -> SpanTally {
        let mut sum = SpanTally::default();
        if from < to {
            self.seconds.range(from..to).for_each(|(_, tally)| sum.add(tally));
        }
        sum
    }
}
