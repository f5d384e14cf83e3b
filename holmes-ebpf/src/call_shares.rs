//! Which memory calls are recorded with their stacks: a stack takes longer than the call.
//!
//! As long as there are not many on a CPU, each is. Of those beyond, one of some is drawn, and stands for
//! all since the last: the more there are, the fewer are drawn.
//!
//! Must not: read the clock at every call.

use aya_ebpf::helpers::{
    bpf_get_prandom_u32,
    generated::{bpf_jiffies64, bpf_ktime_get_ns},
};
use holmes_common::limits::{
    CALL_BURST, CALL_EARNED_NS, CALL_SHARE, LARGE_CALL_BYTES, MAX_CALL_SHARE,
};

use crate::maps::CALL_SHARES;

/// What a CPU knows from one call to the next.
///
/// A program on a function may be preempted, and another one run meanwhile: then a number may be what
/// either left, and a call stand for a few too many or too few. Each cgroup's totals do not go by this.
#[repr(C)]
pub struct CallShares {
    /// Calls of any size that may still be recorded one by one.
    calls: u64,
    /// Calls for many bytes, when those are used up.
    large: u64,
    /// When the last of them were earned, `CLOCK_MONOTONIC` in nanoseconds.
    earned_at: u64,
    /// The tick of the kernel's timer that the last call came in.
    tick: u64,
    /// Calls beyond those since then.
    beyond: u64,
    /// Of such calls one of so many is drawn, but of no fewer than `CALL_SHARE`.
    share: u64,
    /// Calls to go until the next one is drawn.
    left: u64,
    /// Calls between the last one drawn and the next.
    step: u64,
}

/// How many calls the record of this one stands for; `None` if it is left out.
#[inline(always)]
pub fn stands_for(bytes: u64) -> Option<u64> {
    let Some(shares) = CALL_SHARES.get_ptr_mut(0) else {
        return Some(1);
    };
    // SAFETY: the entry is this CPU's. Its words are written one by one, see `CallShares`.
    let shares = unsafe { &mut *shares };
    if shares.calls == 0 {
        // SAFETY: no argument. It takes a tenth of what the clock takes.
        let tick = unsafe { bpf_jiffies64() };
        if tick != shares.tick {
            shares.tick = tick;
            earn(shares);
        }
    }
    if shares.calls > 0 {
        shares.calls -= 1;
        return Some(1);
    }
    if bytes >= LARGE_CALL_BYTES && shares.large > 0 {
        shares.large -= 1;
        return Some(1);
    }
    shares.beyond += 1;
    if shares.left > 1 {
        shares.left -= 1;
        return None;
    }
    let step = shares.step;
    draw(shares);
    // The first one of a CPU stands for itself.
    Some(if step == 0 { 1 } else { step })
}

/// A tick is over: what has been earned since the last time, and of how many calls beyond that one is drawn,
/// so that about as many are drawn as are recorded one by one.
#[inline(always)]
fn earn(shares: &mut CallShares) {
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    let earned = now.wrapping_sub(shares.earned_at) / CALL_EARNED_NS;
    if earned == 0 {
        return;
    }
    let share = shares.beyond / earned;
    shares.share = if share > MAX_CALL_SHARE { MAX_CALL_SHARE } else { share };
    shares.beyond = 0;
    let earned = if earned < CALL_BURST { earned } else { CALL_BURST };
    shares.calls = earned;
    shares.large = earned;
    shares.earned_at = now;
}

/// Draws the distance to the next one: up to twice the share, so that no pattern of a program keeps step
/// with it.
#[inline(always)]
fn draw(shares: &mut CallShares) {
    let share = if shares.share < CALL_SHARE { CALL_SHARE } else { shares.share };
    // SAFETY: no argument.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    let step = 1 + ((random * (2 * share - 1)) >> 32);
    shares.step = step;
    shares.left = step;
}
