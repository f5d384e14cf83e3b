//! An incident's folder as a reader finds it.
//!
//! Must not: know why it was written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::profile_view::ProfileView;
use crate::timeline_view::TimelineView;

/// The timeline's file.
const TIMELINE: &str = "timeline.perfetto-trace.gz";

/// One folder under the dump folder.
#[derive(Clone, Debug)]
pub struct IncidentFolder {
    path: PathBuf,
    document: Value,
}

impl IncidentFolder {
    /// Opens a folder and reads its `incident.json`.
    ///
    /// # Errors
    /// The document is missing or no JSON object.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = path.join("incident.json");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let document: Value = serde_json::from_str(&text).context("parsing incident.json")?;
        anyhow::ensure!(document.is_object(), "incident.json is no object: {text}");
        Ok(Self { path: path.to_owned(), document })
    }

    /// The incidents under a dump folder, by name and so by time.
    ///
    /// # Errors
    /// The folder cannot be read, or an incident in it is broken.
    pub fn all(dump_dir: &Path) -> anyhow::Result<Vec<Self>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dump_dir).context("reading the dump folder")? {
            let path = entry?.path();
            if path.is_dir() && !file_name(&path).starts_with('.') {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// `incident.json`.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// A number in `incident.json`, by JSON pointer.
    ///
    /// # Errors
    /// It is not there; the error shows the document.
    pub fn number(&self, pointer: &str) -> anyhow::Result<f64> {
        self.document
            .pointer(pointer)
            .and_then(Value::as_f64)
            .with_context(|| format!("no number at {pointer} in {:#}", self.document))
    }

    /// Path of the profile with this stem.
    pub fn file(&self, stem: &str) -> PathBuf {
        self.path.join(format!("{stem}.pb.gz"))
    }

    /// The profile with this stem.
    ///
    /// # Errors
    /// It is missing, or the validator objects.
    pub fn profile(&self, stem: &str) -> anyhow::Result<ProfileView> {
        ProfileView::read(&self.file(stem))
    }

    /// Path of the timeline.
    pub fn timeline_file(&self) -> PathBuf {
        self.path.join(TIMELINE)
    }

    /// The timeline.
    ///
    /// # Errors
    /// It is missing, or the validator objects.
    pub fn timeline(&self) -> anyhow::Result<TimelineView> {
        TimelineView::read(&self.timeline_file())
    }

    /// Names of the files in it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files(&self) -> anyhow::Result<BTreeSet<String>> {
        let entries = std::fs::read_dir(&self.path).context("reading the incident's folder")?;
        entries.map(|entry| Ok(file_name(&entry?.path()))).collect()
    }

    /// Reads every profile in the folder, and the timeline: each must be valid. Returns the profiles' stems.
    ///
    /// # Errors
    /// One is not, or a file is neither a profile nor the document.
    pub fn validate(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut stems = BTreeSet::new();
        for file in self.files()? {
            if file == "incident.json" {
                continue;
            }
            if file == TIMELINE {
                self.timeline()?;
                continue;
            }
            let stem = file
                .strip_suffix(".pb.gz")
                .with_context(|| format!("{file} does not belong into an incident's folder"))?;
            self.profile(stem)?;
            stems.insert(stem.to_owned());
        }
        Ok(stems)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
