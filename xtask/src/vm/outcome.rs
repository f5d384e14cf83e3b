//! What a guest said on its serial line: which kernel it is, how its tests ended, which of them it
//! did not run and why.
//!
//! Must not: take silence for success. A kernel that panics ends the emulator with success too.

use anyhow::{Result, bail, ensure};

use crate::test::count::{self, Counts};

/// Begins the lines of the guest's own script.
const MARK: &str = "holmes-guest: ";

/// What is known of a guest so far.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Seconds from the kernel's start to that of the tests, by the guest's clock.
    pub boot: Option<f64>,
    release: Option<String>,
    counts: Option<Counts>,
    exit: Option<i32>,
    /// Tests that ended at once, each with its reason, in the test's own words.
    pub not_run: Vec<String>,
    /// Tests that failed.
    pub failed: Vec<String>,
}

impl Outcome {
    /// Takes in a line.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(said) = line.strip_prefix(MARK) {
            self.said(said);
        } else if let Some(counts) = count::summary(line) {
            self.counts = Some(counts);
        } else if let Some((name, "FAILED")) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            self.failed.push(name.to_owned());
        }
    }

    fn said(&mut self, said: &str) {
        match said.split_once(' ') {
            Some(("up", rest)) => {
                let (seconds, release) = rest.split_once(' ').unwrap_or((rest, ""));
                self.boot = seconds.parse().ok();
                self.release = Some(release.to_owned());
            }
            Some(("not-run", what)) => self.not_run.push(what.to_owned()),
            Some(("exit", code)) => self.exit = code.parse().ok(),
            _ => {}
        }
    }

    /// Whether the guest's script came to its end, however the tests went.
    pub fn ended(&self) -> bool {
        self.exit.is_some()
    }

    /// The tests by result. One that said it did not run is among the skipped, though libtest
    /// takes it for passed.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.unwrap_or_default();
        let not_run = u64::try_from(self.not_run.len()).unwrap_or(u64::MAX).min(counts.passed);
        counts.passed -= not_run;
        counts.skipped += not_run;
        counts
    }

    /// Whether the tests ran to their end, on this kernel, and all was well.
    ///
    /// # Errors
    /// When it was not; the message says what.
    pub fn verdict(&self, release: &str) -> Result<()> {
        let Some(booted) = &self.release else { bail!("the guest did not start") };
        ensure!(booted == release, "the guest runs {booted:?}, not {release:?}");
        let Some(code) = self.exit else {
            bail!("the guest stopped before its tests had ended");
        };
        ensure!(code == 0, "the tests ended with {code}; failed: {}", self.failed.join(", "));
        let Some(counts) = self.counts else { bail!("the guest ended without a count of tests") };
        ensure!(counts.failed == 0, "{} tests failed", counts.failed);
        ensure!(counts.passed > 0, "no test was run: does the filter name one?");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "holmes-guest: up 1.93 6.1.0-56-cloud-amd64\r\n\
        running 3 tests\n\
        test shares::seventy_twenty_ten ... ok\n\
        test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 38 filtered out\n\
        holmes-guest: not-run targets::v1: no hierarchy of v1 is mounted\n\
        holmes-guest: exit 0\n";

    fn of(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        text.lines().for_each(|line| outcome.line(line));
        outcome
    }

    fn refusal(text: &str) -> String {
        of(text).verdict("6.1.0-56-cloud-amd64").expect_err("it must not pass").to_string()
    }

    #[test]
    fn what_was_not_run_is_not_among_the_passed() {
        let outcome = of(WELL);
        assert!(outcome.verdict("6.1.0-56-cloud-amd64").is_ok());
        assert_eq!(outcome.counts(), Counts { passed: 2, failed: 0, skipped: 1 });
        assert_eq!(outcome.not_run, ["targets::v1: no hierarchy of v1 is mounted"]);
        assert_eq!(outcome.boot, Some(1.93));
    }

    #[test]
    fn without_the_mark_at_the_end_nothing_has_passed() {
        let cut = WELL.replace("holmes-guest: exit 0\n", "");
        assert!(refusal(&cut).contains("before its tests had ended"));
        assert!(refusal("").contains("did not start"));
    }

    #[test]
    fn another_kernel_than_asked_for_is_no_result() {
        assert!(of(WELL).verdict("5.10.0-1-cloud-amd64").is_err());
    }

    #[test]
    fn failed_tests_are_named() {
        let failed = WELL
            .replace("seventy_twenty_ten ... ok", "seventy_twenty_ten ... FAILED")
            .replace("ok. 3 passed; 0 failed", "FAILED. 2 passed; 1 failed")
            .replace("exit 0", "exit 101");
        let why = refusal(&failed);
        assert!(why.contains("101") && why.contains("shares::seventy_twenty_ten"), "{why}");
        assert_eq!(of(&failed).counts().failed, 1);
    }

    #[test]
    fn a_filter_that_fits_no_test_is_no_success() {
        assert!(refusal(&WELL.replace("3 passed", "0 passed")).contains("no test was run"));
    }
}
