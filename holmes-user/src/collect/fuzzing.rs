//! Doors for `tests/fuzz`: the decoders of this stage on any bytes.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use holmes_common::limits::{MAX_KERNEL_FRAMES, MAX_USER_FRAMES};

use super::decode::{decode, decode_copy};

/// A record of the ring buffer.
pub fn record(data: &[u8]) {
    if let Ok(observation) = decode(data) {
        let frames = observation.stack.user.len() + observation.stack.kernel.len();
        assert!(observation.stack.user.len() <= MAX_USER_FRAMES);
        assert!(observation.stack.kernel.len() <= MAX_KERNEL_FRAMES);
        assert!(frames * size_of::<u64>() < data.len());
        // What is behind a record is padding.
        let mut padded = data.to_vec();
        padded.extend([0xff; 16]);
        assert_eq!(decode(&padded), Ok(observation));
    }
    if let Some(Ok((_, _, memory))) = decode_copy(data) {
        assert!(memory.bytes.len() < data.len());
    }
}
