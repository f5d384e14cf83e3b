//! Doors for `tests/fuzz`: each side of the naming process on what the other may say.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::super::elf::MAX_LINES;
use super::wire::{MAX_SPOTS, Reply, from_wire, receive_reply, receive_request, to_wire};
use crate::symbolize::demangle::MAX_NAME_BYTES;

/// Bytes that a socket takes without being read.
const MAX_BYTES: usize = 64 << 10;
/// Frames read of one input.
const FRAMES: usize = 16;

/// A socket in which somebody has put these bytes and left.
fn socket(data: &[u8]) -> Option<UnixStream> {
    let (mut theirs, ours) = UnixStream::pair().ok()?;
    theirs.write_all(data.get(..MAX_BYTES).unwrap_or(data)).ok()?;
    Some(ours)
}

/// What a naming process says: the recorder must not trust it.
pub fn reply(data: &[u8]) {
    let Some(socket) = socket(data) else { return };
    let deadline = Instant::now() + Duration::from_secs(5);
    for _ in 0..FRAMES {
        let Ok(reply) = receive_reply(&socket, deadline) else { return };
        let Reply::Answers(answers) = reply else { continue };
        for answer in answers.into_iter().filter_map(from_wire) {
            if let Ok((_, named)) = &answer {
                assert!((1..=MAX_LINES).contains(&named.lines.len()));
                assert!(named.lines.iter().all(|line| line.function.len() <= MAX_NAME_BYTES));
            }
            assert!(from_wire(to_wire(answer)).is_some(), "an answer survives a second journey");
        }
    }
}

/// What the recorder asks for.
pub fn request(data: &[u8]) {
    let Some(socket) = socket(data) else { return };
    for _ in 0..FRAMES {
        let Ok(Some((request, files))) = receive_request(&socket) else { return };
        assert!(files.is_empty(), "bytes alone bring no file");
        assert!(request.spots.len() <= MAX_BYTES.min(MAX_SPOTS));
    }
}
