//! Rules: whether a value is a spike.
//!
//! Must not: do I/O or read a clock. Time and values come in as arguments.

mod book;
mod budget;
mod decision;
mod history;
mod holmes_line;
mod leak;
mod rule;

pub use book::RuleBook;
pub use budget::MAX_BUDGET;
pub use decision::{Cause, Decision, Spike, Suppression};
pub use history::RING_LEN;
pub use holmes_line::holmes_line;
pub use leak::{Growth, LeakRule, MIN_READINGS};
pub use rule::{FiredRule, PsiRule, Rule, RuleSet};
