//! Which waits are recorded: their stacks take longer than the switch.
//!
//! As long as there are not too many on a CPU, each is. Where there are, that holds for threads that leave the
//! CPU now and then, because what waits for long does not wait often; of the others' one of some is drawn,
//! before it is known how long it will be, and stands for them.
//!
//! Must not: read the clock at every switch.

use aya_ebpf::helpers::{
    bpf_get_prandom_u32,
    generated::{bpf_jiffies64, bpf_ktime_get_ns},
};
use holmes_common::limits::{CROWDED_WAITS, WAIT_BURST, WAIT_EARNED_NS, WAIT_SHARE};

use crate::{
    globals::{WAIT_BURST_OF_CPU, WAIT_EARNED_NS_OF_CPU},
    maps::WAIT_SHARES,
};

/// What a thread has earned.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Earnings {
    /// When the last of it was earned, `CLOCK_MONOTONIC` in nanoseconds.
    earned_at: u64,
    /// Waits that may still be recorded one by one.
    left: u64,
}

impl Earnings {
    /// Of a thread that nobody knows: it has had all the time before.
    pub const NONE: Self = Self { earned_at: 0, left: 0 };

    /// Takes one; false if there is none.
    #[inline(always)]
    fn take(&mut self, now: u64) -> bool {
        // Another CPU's clock may be read a tick later.
        let since = now.saturating_sub(self.earned_at);
        if since >= WAIT_EARNED_NS {
            let left = self.left + since / WAIT_EARNED_NS;
            self.left = if left > WAIT_BURST { WAIT_BURST } else { left };
            // What is not enough for another one counts for the next.
            self.earned_at = now - since % WAIT_EARNED_NS;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// What a CPU knows from one switch to the next.
#[repr(C)]
pub struct WaitShares {
    /// Waits that may still be recorded one by one, whoever waits.
    left: u64,
    /// When the last of them were earned, `CLOCK_MONOTONIC` in nanoseconds.
    earned_at: u64,
    /// The tick of the kernel's timer that the last switch came in.
    tick: u64,
    /// When it was noticed, by the same clock as `earned_at`.
    now: u64,
    /// Waits beyond those since some were earned.
    beyond: u64,
    /// Whether there were too many for those who wait often to have a part of what is earned.
    is_crowded: u64,
    /// Waits to go until the next one is drawn.
    to_go: u64,
}

/// How many waits the record of this one stands for, which begins on this CPU; 0 if it is left out.
#[inline(always)]
pub fn stands_for(earnings: &mut Earnings) -> u64 {
    let Some(shares) = WAIT_SHARES.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the entry is this CPU's, and switches on one CPU do not interrupt each other.
    let shares = unsafe { &mut *shares };
    // SAFETY: no argument. It takes a tenth of what the clock takes.
    let tick = unsafe { bpf_jiffies64() };
    if tick != shares.tick {
        shares.tick = tick;
        earn(shares);
    }
    if is_affordable(shares, earnings) {
        shares.left -= 1;
        return 1;
    }
    shares.beyond += 1;
    if shares.to_go > 1 {
        shares.to_go -= 1;
        return 0;
    }
    // Between half and one and a half of the share, so that no pattern of the threads keeps step with it; the
    // share on average, which is what each stands for. Drawing lots each time would scatter three times as much.
    // SAFETY: no argument.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    let is_first = shares.to_go == 0;
    shares.to_go = WAIT_SHARE / 2 + ((random * (WAIT_SHARE + 1)) >> 32);
    // Before the first one there was none that it could stand for.
    if is_first { 1 } else { WAIT_SHARE }
}

/// Whether a wait may be recorded for itself.
#[inline(always)]
fn is_affordable(shares: &WaitShares, earnings: &mut Earnings) -> bool {
    if shares.left == 0 {
        return false;
    }
    // Half of it is for threads that do not wait often, and all where others wait so often that the rest
    // would tell nothing of them that those drawn do not tell.
    let is_for_all = shares.is_crowded == 0 && shares.left > WAIT_BURST_OF_CPU.load() / 2;
    is_for_all || earnings.take(shares.now)
}

/// A tick is over: what has been earned since the last time.
#[inline(always)]
fn earn(shares: &mut WaitShares) {
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    shares.now = now;
    let (burst, earned_ns) = (WAIT_BURST_OF_CPU.load(), WAIT_EARNED_NS_OF_CPU.load());
    if earned_ns == 0 {
        return;
    }
    let since = now.wrapping_sub(shares.earned_at);
    let earned = since / earned_ns;
    if earned == 0 {
        return;
    }
    let left = shares.left + earned;
    shares.left = if left > burst { burst } else { left };
    shares.earned_at = now.wrapping_sub(since % earned_ns);
    shares.is_crowded = u64::from(shares.beyond / CROWDED_WAITS >= earned);
    shares.beyond = 0;
}

// A record's waits have eight bits.
const _: () = assert!(WAIT_SHARE.is_power_of_two() && WAIT_SHARE < 256);
