//! Rules: whether a value is a spike.
//!
//! Must not: do I/O or read a clock. Time and values come in as arguments.

mod rule;

pub use rule::{Rule, RuleSet};
