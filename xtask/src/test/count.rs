//! Counts tests in libtest's output.
//!
//! Must not: decide whether a step passed; a process's exit status does that.

use std::ops::AddAssign;

/// Tests by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were ignored.
    pub skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The counts of a summary line, `test result: ok. 3 passed; 0 failed; 1 ignored; ...`, or `None`
/// for any other line.
pub fn summary(line: &str) -> Option<Counts> {
    let (_, fields) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for field in fields.split("; ") {
        let Some((number, what)) = field.split_once(' ') else { continue };
        match what {
            "passed" => counts.passed = number.parse().ok()?,
            "failed" => counts.failed = number.parse().ok()?,
            "ignored" => counts.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_summaries_and_nothing_else() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; \
                    3 filtered out; finished in 0.01s";
        assert_eq!(summary(line), Some(Counts { passed: 12, failed: 2, skipped: 1 }));
        assert_eq!(summary("test window::keeps_the_last_minutes ... ok"), None);
        assert_eq!(summary("test result: ok. many passed; 0 failed"), None);
    }

    #[test]
    fn counts_add_up() {
        let mut total = Counts { passed: 1, failed: 0, skipped: 2 };
        total += Counts { passed: 3, failed: 1, skipped: 0 };
        assert_eq!(total, Counts { passed: 4, failed: 1, skipped: 2 });
    }
}
