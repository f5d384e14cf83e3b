//! The heap profiles that Go programs keep of themselves as a cut, so that they are named and encoded as
//! all profiles are.
//!
//! Format of the values: `writeHeapProto` and `scaleHeapSample` of `runtime/pprof`.
//!
//! Must not: tell other numbers than the program's own profile.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cut::{Cut, CutSample, Detail, Labels, Owner, ProfileKind, Values};
use crate::collect::{Nanos, Stack};
use crate::golang::{HeapCounts, HeapProfile};

/// The heap profile of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessHeap {
    /// Whose.
    pub owner: Arc<Owner>,
    /// What it is.
    pub note: HeapNote,
    /// By stack and size of the allocations.
    pub samples: Vec<HeapSample>,
}

/// What is said of a heap profile beside its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapNote {
    /// Bytes from one sample to the next, on average.
    pub rate: u64,
    /// In words: of which process and Go, and how exact.
    pub text: String,
}

/// Allocations of one size at one stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapSample {
    /// Their addresses, leaf first: as in other samples the leaf's is exact.
    pub addresses: Box<[u64]>,
    /// Bytes of each.
    pub size: u64,
    /// Allocations and their bytes, in all and in use: what the samples stand for.
    pub values: Values,
}

impl ProcessHeap {
    /// That of a process. Stacks of which nothing is told yet are left out.
    pub fn of(profile: &HeapProfile, owner: Arc<Owner>) -> Self {
        let told = profile.buckets.iter().filter(|bucket| bucket.counts != HeapCounts::default());
        let samples = told.map(|bucket| {
            let counts = &bucket.counts;
            let [allocs, bytes] = scaled(counts.allocs, counts.alloc_bytes, profile.rate);
            let [kept, kept_bytes] = scaled(counts.in_use(), counts.in_use_bytes(), profile.rate);
            let mut addresses: Box<[u64]> = bucket.shown.clone();
            if let Some(leaf) = addresses.first_mut() {
                *leaf = leaf.saturating_sub(1);
            }
            let size = counts.alloc_bytes.checked_div(counts.allocs).unwrap_or_default();
            HeapSample { addresses, size, values: [allocs, bytes, kept, kept_bytes] }
        });
        let note = HeapNote { rate: profile.rate, text: profile.to_string() };
        Self { owner, note, samples: samples.collect() }
    }
}

/// The cut of the heap profiles of some processes, seen then. It has no span: it is of all the time that
/// they have run.
pub fn go_heap_cut(processes: &[ProcessHeap], seen: Nanos) -> Cut {
    let samples = processes.iter().flat_map(|process| {
        process.samples.iter().map(|sample| CutSample {
            owner: Arc::clone(&process.owner),
            stack: Arc::new(Stack { user: sample.addresses.clone(), kernel: Box::default() }),
            detail: Detail::Size(sample.size),
            labels: Labels::new(),
            values: sample.values,
        })
    });
    Cut { kind: ProfileKind::GoHeap, from: seen, to: seen, samples: samples.collect() }
}

/// So many allocations and bytes that were sampled stand for: an allocation of S bytes is sampled with
/// probability 1 - exp(-S / rate).
fn scaled(count: u64, bytes: u64, rate: u64) -> [i64; 2] {
    if count == 0 || bytes == 0 {
        return [0, 0];
    }
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    // Each allocation is sampled.
    if rate <= 1 {
        return [whole(count), whole(bytes)];
    }
    let (count, bytes) = (count as f64, bytes as f64);
    let scale = 1.0 / (1.0 - (-(bytes / count) / rate as f64).exp());
    // What does not fit stays at the type's end.
    [(count * scale) as i64, (bytes * scale) as i64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_for_others() {
        const RATE: u64 = 512 << 10;
        assert_eq!(scaled(0, 0, RATE), [0, 0]);
        assert_eq!(scaled(3, 3000, 1), [3, 3000], "all of them are sampled");
        // As Go's own profile has it.
        assert_eq!(scaled(1, 1024, RATE), [512, 524_800]);
        assert_eq!(scaled(10, 10 << 20, RATE), [11, 12_126_966]);
        assert_eq!(scaled(2, 1 << 30, RATE), [2, 1 << 30]);
        assert_eq!(scaled(u64::MAX, u64::MAX, RATE), [i64::MAX, i64::MAX]);
    }
}
