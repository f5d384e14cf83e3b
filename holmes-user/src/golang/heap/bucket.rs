//! A bucket of the runtime's heap profile: sampled allocations of one size at one stack.
//!
//! Format: `bucket`, `memRecord` and `memRecordCycle` of `runtime/mprof.go`, as confirmed with the debug
//! information of a program of each version from Go 1.18 to 1.27: a header, the stack, and the counts.
//!
//! Must not: take for a bucket what does not have the hash of its stack.

use super::super::build_info::GoVersion;
use super::HeapCounts;
use super::list::MAX_DEPTH;
use crate::binary::u64_at;

/// Bytes of the header: the next bucket of this hash, the next of all, the type, the hash, the size of
/// the allocations and the length of the stack, a word each.
pub(super) const HEADER: usize = 48;
const NEXT_OF_ALL: usize = 8;
const TYPE: usize = 16;
const HASH: usize = 24;
const SIZE: usize = 32;
const DEPTH: usize = 40;

/// The type of the heap profile's buckets; the others are of blocking and of mutexes.
const MEMORY: u64 = 1;

/// Sets of counts that are not told yet: of the collections that are under way.
const FUTURES: usize = 3;

/// The header of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The bucket that was made before; 0 of the first.
    pub(super) next: u64,
    hash: u64,
    /// Of each of its allocations, in bytes.
    pub(super) size: u64,
    /// Addresses in its stack.
    pub(super) depth: usize,
}

impl Header {
    /// Decodes it; `None` if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| u64_at(bytes, at);
        let depth = usize::try_from(word(DEPTH)).ok().filter(|depth| *depth <= MAX_DEPTH)?;
        if bytes.len() < HEADER || word(TYPE) != MEMORY {
            return None;
        }
        Some(Self { next: word(NEXT_OF_ALL), hash: word(HASH), size: word(SIZE), depth })
    }

    /// Whether this is the stack: the runtime's own hash of it and of the size is in the header.
    pub(super) fn is_of(&self, stack: &[u64]) -> bool {
        let mix = |hash: u64, value: u64| {
            let hash = hash.wrapping_add(value);
            let hash = hash.wrapping_add(hash << 10);
            hash ^ (hash >> 6)
        };
        let hash = mix(stack.iter().copied().fold(0, mix), self.size);
        let hash = hash.wrapping_add(hash << 3);
        hash ^ (hash >> 11) == self.hash
    }
}

/// How the counts of a bucket lie in memory: sets of them, of which the first are those that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordLayout {
    /// Whether a set counts allocations, frees and the bytes of each, or but the first two: all allocations
    /// of a bucket have one size.
    counts_bytes: bool,
}

impl RecordLayout {
    /// Of a version.
    pub(super) fn of(version: &GoVersion) -> Self {
        let own = version.own.as_ref().map(|own| own.counts_bytes);
        Self { counts_bytes: own.unwrap_or(version.minor <= 26) }
    }

    /// Bytes of a set.
    const fn set(self) -> usize {
        if self.counts_bytes { 32 } else { 16 }
    }

    /// Bytes of all of them.
    pub(super) const fn bytes(self) -> usize {
        self.set() * (1 + FUTURES)
    }
}

/// The counts of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    told: HeapCounts,
    futures: [HeapCounts; FUTURES],
}

impl Record {
    /// Decodes the counts of allocations of this size.
    pub(super) fn decode(bytes: &[u8], layout: RecordLayout, size: u64) -> Self {
        let counts = |number: usize| {
            let word = |at: usize| u64_at(bytes, number * layout.set() + at);
            let (allocs, frees) = (word(0), word(8));
            let (alloc_bytes, free_bytes) = if layout.counts_bytes {
                (word(16), word(24))
            } else {
                (allocs.wrapping_mul(size), frees.wrapping_mul(size))
            };
            HeapCounts { allocs, frees, alloc_bytes, free_bytes }
        };
        Self { told: counts(0), futures: std::array::from_fn(|number| counts(1 + number)) }
    }

    /// What the program itself would tell in this cycle: it adds those of the cycle first.
    pub(super) fn in_cycle(&self, cycle: u32) -> HeapCounts {
        sum(self.told, self.futures[cycle as usize % FUTURES])
    }

    /// What it would tell before the first collection: all.
    pub(super) fn in_all(&self) -> HeapCounts {
        self.futures.into_iter().fold(self.told, sum)
    }
}

/// As the runtime adds: what does not fit has no end there either.
const fn sum(left: HeapCounts, right: HeapCounts) -> HeapCounts {
    HeapCounts {
        allocs: left.allocs.wrapping_add(right.allocs),
        frees: left.frees.wrapping_add(right.frees),
        alloc_bytes: left.alloc_bytes.wrapping_add(right.alloc_bytes),
        free_bytes: left.free_bytes.wrapping_add(right.free_bytes),
    }
}
