//! A heap profile as `/debug/pprof/heap?debug=1` prints it.
//!
//! Format: `writeHeapInternal` of `runtime/pprof`; the statistics below it are left out.

use std::cmp::Reverse;
use std::fmt::Write;

use super::super::debug1::write_stack;
use super::super::names::{GoFrame, GoNames};
use super::{HeapBucket, HeapCounts, HeapProfile};

/// The text of a profile: the stacks that keep most first.
pub fn heap_debug1(profile: &HeapProfile, names: &mut GoNames<'_>) -> String {
    let mut total = HeapCounts::default();
    for HeapBucket { counts, .. } in &profile.buckets {
        total.allocs = total.allocs.saturating_add(counts.allocs);
        total.frees = total.frees.saturating_add(counts.frees);
        total.alloc_bytes = total.alloc_bytes.saturating_add(counts.alloc_bytes);
        total.free_bytes = total.free_bytes.saturating_add(counts.free_bytes);
    }
    // Who reads it takes equal numbers for a profile of another kind.
    if total.alloc_bytes == total.in_use_bytes() {
        total.alloc_bytes = total.alloc_bytes.saturating_add(1);
        total.free_bytes = total.free_bytes.saturating_add(1);
    }
    // Twice the rate, as C++'s tools wrote it.
    let rate = profile.rate.saturating_mul(2);
    let mut text = format!("heap profile: {} @ heap/{rate}\n", counted(&total));
    let mut buckets: Vec<&HeapBucket> = profile.buckets.iter().collect();
    buckets.sort_by_key(|bucket| (Reverse(bucket.counts.in_use_bytes()), &bucket.stack));
    for bucket in buckets {
        text.push_str(&counted(&bucket.counts));
        text.push_str(" @");
        for address in &bucket.stack {
            // Writing to a string does not fail.
            let _ = write!(text, " {address:#x}");
        }
        text.push('\n');
        let frames: Vec<GoFrame> = bucket.stack.iter().map(|&it| innermost(it, names)).collect();
        write_stack(&mut text, &frames);
        text.push('\n');
    }
    text
}

/// The function at an address, the innermost that was inlined there: what that was inlined into has an
/// address of its own.
fn innermost(address: u64, names: &mut GoNames<'_>) -> GoFrame {
    names.frames(address).first().cloned().unwrap_or_else(|| GoFrame::unknown(address))
}

/// `1: 1024 [2: 2048]`: in use, and in all.
fn counted(counts: &HeapCounts) -> String {
    let HeapCounts { allocs, alloc_bytes, .. } = counts;
    format!("{}: {} [{allocs}: {alloc_bytes}]", counts.in_use(), counts.in_use_bytes())
}
