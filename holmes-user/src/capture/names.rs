//! The names found for an incident's addresses, as a recording keeps them: so that a replay, on
//! another machine and without root, shows what the first run showed.
//!
//! Must not: look anything up. `symbolize` comes after this stage and converts to and from its own
//! table.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One function of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordedLine {
    /// Demangled name.
    pub function: Arc<str>,
    /// Source file; empty where unknown.
    #[serde(default)]
    pub file: Arc<str>,
    /// Source line; 0 where unknown.
    #[serde(default)]
    pub line: u32,
}

/// The name of one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedName {
    /// The number of the object it lies in; absent for the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<u32>,
    /// Offset in the object in bytes, or the kernel address.
    pub address: u64,
    /// The kernel module; empty for the kernel proper and for user space.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// Innermost inlined function first.
    pub lines: Vec<RecordedLine>,
}

/// Names, in the order in which they were found.
pub type Names = Vec<RecordedName>;
