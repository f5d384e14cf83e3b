//! Doors for `tests/fuzz`: the reader and the validator of profiles on bytes that anybody may have
//! written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::validate::{MAX_VIOLATIONS, check};
use super::{decode, write_gz};

/// A profile, packed or not.
pub fn pprof(data: &[u8]) {
    let Ok(profile) = decode(data) else { return };
    if let Err(violations) = check(&profile) {
        assert!((1..=MAX_VIOLATIONS).contains(&violations.len()));
    }
    let again = decode(&write_gz(&profile));
    assert_eq!(again.ok(), Some(profile), "a profile survives packing");
}
