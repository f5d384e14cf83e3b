//! Doors for `tests/fuzz`: the reader of the configuration file on any text.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::file::{MAX_PROBLEMS, parse};

/// A configuration file.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(problems) = parse(&text) {
        assert!((1..=MAX_PROBLEMS).contains(&problems.len()));
        let lines = text.split('\n').count();
        for problem in problems {
            assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem}");
            assert!(!problem.message.contains('\n'), "{problem}");
        }
    }
}
