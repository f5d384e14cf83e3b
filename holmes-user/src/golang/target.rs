//! What has to be known of a process to read its goroutines.
//!
//! Must not: know files.

use super::build_info::GoVersion;
use super::error::GoError;
use super::layout::Layout;
use super::locate::ListPlace;

/// A process, as far as its memory is concerned.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) version: GoVersion,
    pub(super) layout: Layout,
    /// Addresses in the process.
    pub(super) list: ListPlace,
}

impl Target {
    /// What is in memory makes no sense.
    pub(super) fn nonsense(&self, what: &'static str) -> GoError {
        GoError::Nonsense { version: self.version.text.clone(), what }
    }
}
