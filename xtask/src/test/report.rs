//! The table at the end: every step with its result and time, what could not be run and why, and
//! the counts as the last line.
//!
//! Must not: run anything.

use std::fmt::Write as _;
use std::time::Duration;

use super::count::Counts;

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was well.
    Passed(Counts),
    /// Something was not; the text says what.
    Failed(Counts, String),
    /// It could not be run; the text says why.
    Skipped(String),
}

/// What has been run so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<(&'static str, Outcome, Duration)>,
    not_run: Vec<(String, String)>,
}

impl Report {
    /// Adds a step.
    pub fn add(&mut self, name: &'static str, outcome: Outcome, took: Duration) {
        match &outcome {
            Outcome::Passed(_) => println!("<== {name}: passed"),
            Outcome::Failed(_, why) => println!("<== {name}: FAILED: {why}"),
            Outcome::Skipped(why) => {
                println!("<== {name}: not run: {why}");
                self.could_not_run(name, why);
            }
        }
        self.rows.push((name, outcome, took));
    }

    /// Notes what could not be run, and why.
    pub fn could_not_run(&mut self, what: &str, why: &str) {
        self.not_run.push((what.to_owned(), why.to_owned()));
    }

    /// Whether no step failed.
    pub fn passed(&self) -> bool {
        !self.rows.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(..)))
    }

    /// All tests of all steps. A step that failed without a failed test (a lint, a build) counts as
    /// one failure, so that the last line never hides it; one that was not run as one skipped.
    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for (_, outcome, _) in &self.rows {
            match outcome {
                Outcome::Passed(counts) => total += *counts,
                Outcome::Failed(counts, _) => {
                    total += Counts { failed: counts.failed.max(1), ..*counts };
                }
                Outcome::Skipped(_) => total.skipped += 1,
            }
        }
        total
    }

    /// The report as text.
    pub fn text(&self, took: Duration) -> String {
        let mut text = String::from("\n");
        // Writing to a String cannot fail.
        for (name, outcome, took) in &self.rows {
            let (result, detail) = match outcome {
                Outcome::Passed(counts) => ("passed", counts_text(*counts)),
                Outcome::Failed(counts, why) => {
                    let counts = counts_text(*counts);
                    let gap = if counts.is_empty() { "" } else { ": " };
                    ("FAILED", format!("{counts}{gap}{why}"))
                }
                Outcome::Skipped(why) => ("not run", why.clone()),
            };
            let row = format!("{name:<14} {result:<8} {:>7.1} s  {detail}", took.as_secs_f64());
            let _ = writeln!(text, "{}", row.trim_end());
        }
        let _ = writeln!(text, "{:<14} {:<8} {:>7.1} s", "all", "", took.as_secs_f64());
        if !self.not_run.is_empty() {
            text.push_str("\nCould not be run here:\n");
            for (what, why) in &self.not_run {
                let _ = writeln!(text, "- {what}: {why}");
            }
        }
        let Counts { passed, failed, skipped } = self.total();
        let _ = write!(text, "\n{passed} passed, {failed} failed");
        if skipped > 0 {
            let _ = write!(text, ", {skipped} skipped");
        }
        text.push('\n');
        text
    }
}

fn counts_text(counts: Counts) -> String {
    if counts == Counts::default() {
        return String::new();
    }
    let Counts { passed, failed, skipped } = counts;
    format!("{passed} passed, {failed} failed, {skipped} ignored")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    fn last_line(report: &Report) -> String {
        report.text(Duration::ZERO).lines().last().unwrap().to_owned()
    }

    #[test]
    fn the_last_line_adds_the_tests_of_all_steps() {
        let mut report = Report::default();
        report.add("fmt", Outcome::Passed(Counts::default()), Duration::ZERO);
        report.add("unit", Outcome::Passed(counts(40, 0, 0)), Duration::ZERO);
        report.add("live", Outcome::Passed(counts(2, 0, 0)), Duration::ZERO);
        assert!(report.passed());
        assert_eq!(last_line(&report), "42 passed, 0 failed");
    }

    #[test]
    fn a_failed_lint_is_a_failure_though_no_test_failed() {
        let mut report = Report::default();
        report.add("unit", Outcome::Passed(counts(3, 0, 0)), Duration::ZERO);
        let why = "`cargo clippy` failed".to_owned();
        report.add("clippy", Outcome::Failed(Counts::default(), why), Duration::ZERO);
        assert!(!report.passed());
        assert_eq!(last_line(&report), "3 passed, 1 failed");
    }

    #[test]
    fn failed_tests_are_not_counted_twice() {
        let mut report = Report::default();
        report.add("unit", Outcome::Failed(counts(3, 2, 0), "x".into()), Duration::ZERO);
        assert_eq!(last_line(&report), "3 passed, 2 failed");
    }

    #[test]
    fn what_was_not_run_is_named_with_its_reason() {
        let mut report = Report::default();
        report.add("live", Outcome::Skipped("not root".into()), Duration::ZERO);
        let text = report.text(Duration::ZERO);
        assert!(text.contains("- live: not root"), "{text}");
        assert_eq!(last_line(&report), "0 passed, 0 failed, 1 skipped");
        assert!(report.passed(), "what could not be run is no failure");
    }
}
