//! The names of the addresses of some cuts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One source line's function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Line {
    /// Demangled name.
    pub function: Arc<str>,
    /// Source file; empty where unknown.
    pub file: Arc<str>,
    /// Source line; 0 where unknown.
    pub line: u32,
}

/// How an address was named: at least one line, innermost inlined function first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Innermost first; the last is the function the address physically lies in.
    pub lines: Vec<Line>,
    /// For kernel addresses: the module, empty for the kernel proper.
    pub module: String,
}

/// The names of addresses. What is absent has no name: it is shown as module + offset.
///
/// Call addresses: frames other than the leaf are return addresses, and are looked up one byte
/// earlier; the keys here are the addresses looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolTable {
    /// By object number and offset in the object.
    pub user: BTreeMap<(u32, u64), Arc<Named>>,
    /// By kernel address.
    pub kernel: BTreeMap<u64, Arc<Named>>,
}
