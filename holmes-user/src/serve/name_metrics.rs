//! The metrics of naming: frames by who knew them, debug information that was not used, and what a
//! debuginfod server sent.
//!
//! Must not: count anything itself.

use prometheus::{IntCounterVec, Opts, Registry};

use super::families::raise;
use super::snapshot::Snapshot;

/// The families.
#[derive(Debug)]
pub(super) struct NameMetrics {
    frames: IntCounterVec,
    debug_skipped: IntCounterVec,
    fetches: IntCounterVec,
}

impl NameMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, label: &str| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            prometheus::Result::Ok(family)
        };
        Ok(Self {
            frames: counters(
                "holmes_frames_total",
                "Frames of written incidents, by how they were named.",
                "named_by",
            )?,
            debug_skipped: counters(
                "holmes_debug_info_skipped_total",
                "Files whose debug information was not used, by cause.",
                "cause",
            )?,
            fetches: counters(
                "holmes_debuginfod_fetches_total",
                "Debug files asked for at a debuginfod server, by result.",
                "result",
            )?,
        })
    }

    pub(super) fn update(&self, snapshot: &Snapshot) {
        for (family, counts) in [
            (&self.frames, &snapshot.frames),
            (&self.debug_skipped, &snapshot.debug_skipped),
            (&self.fetches, &snapshot.fetches),
        ] {
            for (label, &total) in counts {
                raise(&family.with_label_values(&[label]), total);
            }
        }
    }
}
