//! Counting: every loss by its cause, and the exact totals of each cgroup.
//!
//! All additions are atomic: a sample can interrupt another program in the middle of one.

use core::arch::asm;

use holmes_common::counter::{CgroupTotals, Counter};

use crate::maps::{CGROUP_TOTALS, COUNTS};

/// `BPF_NOEXIST`: fail rather than overwrite what another CPU has just put there.
const NOEXIST: u64 = 1;

/// Adds `count` to the word at `word`.
///
/// # Safety
/// `word` must point into a live map value and be aligned to 8 bytes.
#[inline(always)]
pub unsafe fn add(word: *mut u64, count: u64) {
    // The compiler offers no atomic addition for this target (it has no compare-and-swap). This is
    // the one instruction that every kernel's verifier knows; the fetching one came with 5.12.
    // SAFETY: by the caller's promise.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) count) };
}

/// Counts one event.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(word) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer comes from the map and the verifier has seen the null check.
        unsafe { add(word, 1) };
    }
}

/// The totals of a cgroup, made on first use. `None` if the map is full (which is counted).
#[inline(always)]
pub fn cgroup_totals(cgroup_id: u64) -> Option<*mut CgroupTotals> {
    if let Some(totals) = CGROUP_TOTALS.get_ptr_mut(cgroup_id) {
        return Some(totals);
    }
    // SAFETY: all fields are integers, for which zero is a value.
    let empty: CgroupTotals = unsafe { core::mem::zeroed() };
    // A failure shows in the lookup that follows: either another CPU was faster, or it is full.
    let _ = CGROUP_TOTALS.insert(cgroup_id, empty, NOEXIST);
    let totals = CGROUP_TOTALS.get_ptr_mut(cgroup_id);
    if totals.is_none() {
        count(Counter::CgroupTotalsFull);
    }
    totals
}
