//! `cargo xtask tidy`: the rules about the sources that no compiler knows.
//!
//! - [`tree`]: the files of the clone;
//! - [`source`]: Rust source without comments, texts and tests;
//! - [`files`]: what holds for every file: length, first lines, names, paths of machines;
//! - [`stages`]: who may import whom, and what pure stages must not touch;
//! - [`documents`]: README, ARCHITECTURE, CHANGELOG and their links;
//! - [`layout`]: the top level of the clone.
//!
//! Must not: change a file. Each finding names a file and a line, and says what to do.

mod documents;
mod files;
mod layout;
mod source;
mod stages;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use crate::workspace;
use tree::Tree;

/// One broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Relative to the clone.
    file: String,
    /// Counted from 1.
    line: usize,
    /// What is wrong, and what to do.
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Checks the clone and prints what it finds.
///
/// # Errors
/// When a rule is broken, or the clone cannot be read.
pub fn run() -> Result<()> {
    let tree = Tree::read(&workspace::root())?;
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("tidy: {} files, nothing to find fault with", tree.files.len());
    Ok(())
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in [files::check, stages::check, documents::check, layout::check] {
        findings.extend(check(tree));
    }
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clone keeps its own rules.
    #[test]
    fn the_clone_is_tidy() {
        let findings = check(&Tree::read(&workspace::root()).unwrap());
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
