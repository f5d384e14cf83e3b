//! The clocks. Read here, where data enters, and passed on as arguments from then on.

use std::time::{SystemTime, UNIX_EPOCH};

use super::observation::Nanos;

/// Now, on the clock that the probes stamp their records with.
pub fn monotonic() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result. The call fails only for a clock that does
    // not exist, and this one is the kernel's oldest.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Nanos(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
}

/// Now, in nanoseconds since 1970 UTC; 0 on a host whose clock is set before that.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}
