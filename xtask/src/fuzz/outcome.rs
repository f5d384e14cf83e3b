//! What libFuzzer said of a run, as one line of a table.
//!
//! Format: the status lines (`#1234 DONE cov: 56 ft: 78 corp: 9/10Kb ...`) and the final statistics
//! (`stat::name: value`) of <https://llvm.org/docs/LibFuzzer.html>.
//!
//! Must not: run anything.

use std::fmt;

use anyhow::{Context, Result};

/// The numbers of one run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    name: String,
    /// Inputs tried.
    executions: u64,
    /// Edges of the program that were reached.
    edges: u64,
    /// Edges, told apart by how often they were passed.
    features: u64,
    /// Inputs kept because they reached something new.
    corpus: u64,
    /// The most memory, in MiB.
    memory: u64,
}

impl Outcome {
    /// The table's head.
    pub const HEAD: &str = "target             executions     edges  features  corpus  MiB";

    /// Reads what a target has printed.
    ///
    /// # Errors
    /// When it has not printed its statistics: it did not come to its end.
    pub fn of(name: &str, said: &str) -> Result<Self> {
        let statistic = |key: &str| {
            let value = said.lines().find_map(|line| line.strip_prefix(&format!("stat::{key}:")));
            value.and_then(|value| value.trim().parse().ok())
        };
        let status = said.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "));
        let number = |key: &str| {
            let mut words = status.unwrap_or_default().split_whitespace();
            words.find(|word| *word == key)?;
            words.next()?.split('/').next()?.parse().ok()
        };
        let all = || {
            Some(Self {
                name: name.to_owned(),
                executions: statistic("number_of_executed_units")?,
                edges: number("cov:")?,
                features: number("ft:")?,
                corpus: number("corp:")?,
                memory: statistic("peak_rss_mb")?,
            })
        };
        all().with_context(|| format!("{name} ended without its statistics"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, executions, edges, features, corpus, memory } = self;
        write!(out, "{name:<16} {executions:>12} {edges:>9} {features:>9} {corpus:>7} {memory:>4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
#2\tINITED cov: 10 ft: 11 corp: 1/3b exec/s: 0 rss: 40Mb
#524288\tpulse  cov: 56 ft: 78 corp: 9/10Kb lim: 4096 exec/s: 262144 rss: 55Mb
#900000\tDONE   cov: 57 ft: 79 corp: 10/11Kb lim: 4096 exec/s: 180000 rss: 55Mb
Done 900000 runs in 5 second(s)
stat::number_of_executed_units: 900000
stat::average_exec_per_sec:     180000
stat::peak_rss_mb:              56
";

    #[test]
    fn the_last_status_and_the_statistics_count() {
        let expected = Outcome {
            name: "maps".into(),
            executions: 900_000,
            edges: 57,
            features: 79,
            corpus: 10,
            memory: 56,
        };
        assert_eq!(Outcome::of("maps", SAID).unwrap(), expected);
    }

    #[test]
    fn a_run_that_did_not_end_has_no_outcome() {
        let cut = SAID.split("Done").next().unwrap();
        assert!(Outcome::of("maps", cut).is_err());
        assert!(Outcome::of("maps", "").is_err());
    }
}
