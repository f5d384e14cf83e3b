//! Reads the buckets of a heap profile while the program runs.
//!
//! A bucket's header and stack never change, and the list of buckets grows at its head only, so it is
//! walked once. The counts change with each collection: they are read twice, together, until both say the
//! same within one cycle.
//!
//! Must not: trust a pointer, a length, or that the list ends.

use std::collections::HashMap;

use super::super::error::GoError;
use super::super::memory::{END, Memory, Piece};
use super::super::pages::Pages;
use super::super::target::Target;
use super::bucket::{HEADER, Header, Record, RecordLayout};
use super::place::HeapPlace;
use super::{HeapBucket, HeapCounts};
use crate::binary::{u32_at, u64_at};

/// Buckets that are read, the newest: 64 MiB in the process with stacks of usual depth. Large programs
/// have some ten thousand; the runtime's own table of them has 180,000 places.
pub(in super::super) const MAX_BUCKETS: usize = 1 << 17;

/// Addresses of a stack: the runtime's own bound (`maxProfStackDepth`). It keeps 32 before Go 1.23, and 128
/// since then unless it is told otherwise.
pub(in super::super) const MAX_DEPTH: usize = 1024;

/// Addresses of all stacks together, 32 MiB.
const MAX_ADDRESSES: usize = 4 << 20;

/// A sample for more bytes than this is none: a TiB.
const MAX_RATE: i64 = 1 << 40;

/// Times that counts are read which change meanwhile. They do so three times in a collection.
const TRIES: u32 = 16;

/// What is wrong where memory is not there.
const MISSING: &str = "a part of its heap profile is not in memory";

/// What was read.
#[derive(Debug)]
pub(in super::super) struct Found {
    /// Bytes from sample to sample.
    pub(in super::super) rate: u64,
    /// The newest first.
    pub(in super::super) buckets: Vec<HeapBucket>,
    /// Whether there are more.
    pub(in super::super) is_cut: bool,
}

/// Reads a heap profile from any memory.
pub(in super::super) fn read(
    target: &Target,
    place: &HeapPlace,
    memory: &impl Memory,
) -> Result<Found, GoError> {
    let layout = RecordLayout::of(&target.version);
    let mut list =
        List { target, memory, layout, known: HashMap::new(), buckets: Vec::new(), cut: false };
    let mut before = Variables::read(target, place, memory)?;
    for _ in 0..TRIES {
        list.walk(before.head)?;
        let (first, second) = (list.counts(before.cycle)?, list.counts(before.cycle)?);
        let after = Variables::read(target, place, memory)?;
        if before.cycle == after.cycle && first.is_settled(&second) {
            return Ok(list.finish(after.rate, second));
        }
        before = after;
    }
    Err(GoError::RestlessHeap)
}

/// What the profile's variables say.
#[derive(Clone, Copy, Debug)]
struct Variables {
    head: u64,
    cycle: u32,
    rate: u64,
}

impl Variables {
    fn read(target: &Target, place: &HeapPlace, memory: &impl Memory) -> Result<Self, GoError> {
        let pieces = [(place.rate, 8), (place.cycle, 4), (place.buckets, 8)];
        let pieces = pieces.map(|(address, len)| Piece { address, len });
        let mut bytes = Vec::new();
        let are_there =
            memory.read(&pieces, &mut bytes).map_err(|error| GoError::of(target.pid, error))?;
        if are_there.contains(&false) {
            return Err(target.nonsense("the heap profile is not in memory"));
        }
        let (rate, cycle, head) = (u64_at(&bytes, 0) as i64, u32_at(&bytes, 8), u64_at(&bytes, 12));
        if rate <= 0 {
            return Err(GoError::NoHeapProfile);
        }
        if rate > MAX_RATE {
            return Err(target.nonsense("its heap profile has no rate"));
        }
        // The lowest bit says whether the cycle's counts were added; before Go 1.19 another variable did.
        let cycle = if target.version.minor < 19 { cycle } else { cycle >> 1 };
        Ok(Self { head, cycle, rate: rate as u64 })
    }
}

/// The buckets that are known.
struct List<'a, M> {
    target: &'a Target,
    memory: &'a M,
    layout: RecordLayout,
    /// Numbers by address. The target chooses them: not by a fast hash.
    known: HashMap<u64, usize>,
    /// In each walk the newest first.
    buckets: Vec<Bucket>,
    cut: bool,
}

/// What never changes of a bucket.
struct Bucket {
    /// Where its counts are.
    counts: u64,
    /// Of each of its allocations, in bytes.
    size: u64,
    stack: Box<[u64]>,
}

/// The counts of all buckets, as the program would tell them.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    each: Vec<HeapCounts>,
    /// No collection has told any yet: they are what was counted since the program began.
    is_first: bool,
}

impl Counts {
    /// Whether these are of one moment, where they were read a second time. Before the first collection
    /// they grow all the time, and nothing moves.
    fn is_settled(&self, again: &Self) -> bool {
        self == again || self.is_first && again.is_first
    }
}

impl<M: Memory> List<'_, M> {
    /// Walks the list from its head to what is known of it.
    fn walk(&mut self, head: u64) -> Result<(), GoError> {
        let target = self.target;
        let mut pages = Pages::new(target, self.memory);
        let known_before = self.buckets.len();
        let mut addresses: usize = self.buckets.iter().map(|bucket| bucket.stack.len()).sum();
        let mut bytes = Vec::new();
        let mut at = head;
        while at != 0 {
            match self.known.get(&at) {
                Some(&number) if number < known_before => break,
                Some(_) => return Err(target.nonsense("its heap profile leads back to itself")),
                None => {}
            }
            if self.buckets.len() >= MAX_BUCKETS || addresses >= MAX_ADDRESSES {
                self.cut = true;
                break;
            }
            if !at.is_multiple_of(8) || at >= END {
                return Err(target.nonsense("its heap profile leads nowhere"));
            }
            if !pages.copy(at, HEADER, &mut bytes)? {
                return Err(target.nonsense(MISSING));
            }
            let header = Header::decode(&bytes)
                .ok_or_else(|| target.nonsense("its heap profile holds something else"))?;
            if !pages.copy(at + HEADER as u64, header.depth * 8, &mut bytes)? {
                return Err(target.nonsense(MISSING));
            }
            let (words, _) = bytes.as_chunks::<8>();
            let stack: Box<[u64]> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            if !header.is_of(&stack) {
                return Err(target.nonsense("a stack of its heap profile is another one's"));
            }
            addresses += stack.len();
            self.known.insert(at, self.buckets.len());
            let counts = at + (HEADER + header.depth * 8) as u64;
            self.buckets.push(Bucket { counts, size: header.size, stack });
            at = header.next;
        }
        Ok(())
    }

    /// Reads the counts of all.
    fn counts(&self, cycle: u32) -> Result<Counts, GoError> {
        let len = self.layout.bytes();
        let pieces = self.buckets.iter().map(|bucket| Piece { address: bucket.counts, len });
        let mut bytes = Vec::new();
        let are_there = self
            .memory
            .read(&pieces.collect::<Vec<Piece>>(), &mut bytes)
            .map_err(|error| GoError::of(self.target.pid, error))?;
        if are_there.contains(&false) {
            return Err(self.target.nonsense(MISSING));
        }
        let records = || {
            let sizes = self.buckets.iter().map(|bucket| bucket.size);
            let parts = bytes.chunks_exact(len).zip(sizes);
            parts.map(|(part, size)| Record::decode(part, self.layout, size))
        };
        let each: Vec<HeapCounts> = records().map(|record| record.in_cycle(cycle)).collect();
        let is_first = each.iter().all(|counts| counts.allocs == 0 && counts.frees == 0);
        let each = if is_first { records().map(|it| it.in_all()).collect() } else { each };
        Ok(Counts { each, is_first })
    }

    fn finish(self, rate: u64, counts: Counts) -> Found {
        let buckets = self.buckets.into_iter().zip(counts.each);
        let buckets = buckets.map(|(Bucket { stack, .. }, counts)| HeapBucket {
            stack,
            shown: Box::default(),
            counts,
        });
        Found { rate, buckets: buckets.collect(), is_cut: self.cut }
    }
}
