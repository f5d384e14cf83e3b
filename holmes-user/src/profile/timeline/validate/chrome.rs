//! The rules of Chrome's format, event by event.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Rule, Violation, Violations};
use crate::profile::timeline::chrome::ChromeEvent;

/// Checks the events of a file, one after the other.
#[derive(Default)]
pub struct ChromeChecker {
    violations: Violations,
    /// Processes with a name.
    processes: FxHashSet<u64>,
    /// Threads with a name, and when the last span of each ends, in nanoseconds.
    threads: FxHashMap<(u64, u64), f64>,
}

impl ChromeChecker {
    /// The next event.
    pub fn event(&mut self, event: &ChromeEvent) {
        let thread = (event.pid, event.tid);
        match event.ph.as_str() {
            "M" => self.name(event),
            "X" | "i" => {
                let is_known = self.processes.contains(&event.pid);
                self.require(is_known && self.threads.contains_key(&thread), Rule::Track);
                self.require(!event.name.is_empty() && event.cat.is_some(), Rule::Event);
                let begin = event.ts.filter(|ts| ts.is_finite() && *ts >= 0.0);
                self.require(begin.is_some(), Rule::Clock);
                if event.ph == "X" {
                    self.span(event, begin.unwrap_or(0.0));
                } else {
                    self.require(event.s.as_deref() == Some("t"), Rule::Event);
                }
            }
            _ => self.require(false, Rule::Event),
        }
        self.violations.at += 1;
    }

    /// The violations.
    pub fn finish(self) -> Vec<Violation> {
        self.violations.list
    }

    fn require(&mut self, holds: bool, rule: Rule) {
        self.violations.require(holds, rule);
    }

    fn name(&mut self, event: &ChromeEvent) {
        let name = event.args.get("name").and_then(|name| name.as_str());
        self.require(name.is_some_and(|name| !name.is_empty()), Rule::Named);
        match event.name.as_str() {
            "process_name" => {
                let is_first = self.processes.insert(event.pid);
                self.require(is_first, Rule::TrackId);
            }
            "thread_name" => {
                // A later thread of the same number is on the same track.
                self.threads.entry((event.pid, event.tid)).or_insert(0.0);
            }
            _ => self.require(false, Rule::Event),
        }
    }

    fn span(&mut self, event: &ChromeEvent, begin: f64) {
        // As whole nanoseconds: sums of fractions are not exact.
        let nanos = |micros: f64| (micros * 1e3).round();
        let duration = event.dur.filter(|dur| dur.is_finite() && nanos(*dur) > 0.0);
        self.require(duration.is_some(), Rule::Balance);
        let end = nanos(begin) + nanos(duration.unwrap_or(0.0));
        let reached = self.threads.entry((event.pid, event.tid)).or_insert(0.0);
        let in_order = nanos(begin) >= *reached;
        *reached = end.max(*reached);
        self.require(in_order, Rule::Order);
    }
}
