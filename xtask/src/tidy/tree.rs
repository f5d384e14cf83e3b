//! The files of the clone, as git knows them: tracked, or new and not ignored.
//!
//! Must not: judge them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command;

/// The clone's files by their path relative to it. Files that are not text have no content.
#[derive(Debug, Default)]
pub struct Tree {
    /// Path to content.
    pub files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads the clone.
    ///
    /// # Errors
    /// When git is not there, or this is no clone.
    pub fn read(root: &Path) -> Result<Self> {
        let mut git = command::of("git", &["-c", "safe.directory=*", "ls-files", "-z"]);
        git.args(["--cached", "--others", "--exclude-standard"]).current_dir(root);
        let listed = command::output(&mut git).context("tidy reads what git tracks")?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A file that was deleted and not yet committed is still listed.
            if let Ok(bytes) = std::fs::read(root.join(path)) {
                files.insert(path.to_owned(), String::from_utf8(bytes).ok());
            }
        }
        Ok(Self { files })
    }

    /// The text files whose path begins and ends so.
    pub fn texts<'a>(
        &'a self,
        prefix: &'a str,
        suffix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(prefix) && path.ends_with(suffix))
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// A file's text, or `None` where it does not exist or is not text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is such a file, or a folder with files in it.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// A made-up clone.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).into(), Some((*text).into())));
        Self { files: files.collect() }
    }
}
