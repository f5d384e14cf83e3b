//! The pipeline: wires the stages together; nothing else does.
//!
//! - `live`: the stages up to whose an observation is, on this host's kernel;
//! - `recorder`: the recorder's loop;
//! - `desk`: the thread that names and files incidents;
//! - `record`: one window, to a file;
//! - `allocations`: what one process allocates, to a file;
//! - `goroutines`: the goroutines of one process, or by `go_heap` its own heap profile, to a file;
//! - `replay`: a recording instead of a kernel;
//! - `tap`: writes such a recording as the input goes by;
//! - `copies`: writes the memory of sampled stacks, for those who check the unwinder;
//! - `os_signals`: what the program is told by signals;
//! - `warnings`: waits for the kernel's early warnings about memory.
//!
//! Must not: do a stage's work. What is more than wiring belongs in a stage.

mod allocations;
mod blocked;
mod copies;
mod desk;
mod go_heap;
mod goroutines;
mod live;
mod locks;
mod os_signals;
mod record;
mod recorder;
mod replay;
mod tap;
mod warnings;

pub use goroutines::run as goroutines;
pub use record::run as record;
pub use recorder::run as recorder;
pub use replay::run as replay;

use std::sync::Arc;

use tracing::info;

use crate::capture::{Incident, Losses, Reason};
use crate::rules::holmes_line;
use crate::settings::NameSettings;
use crate::symbolize::Symbolizer;
use crate::symbolize::debuginfod::Debuginfod;

/// Says in the log what a rule has found.
fn announce(incident: &Incident) {
    if let (Some(signal), Some(rule)) = (incident.signal, &incident.rule) {
        info!("{}", holmes_line(signal, rule, &incident.previous, incident.value));
    }
    match incident.reason {
        Reason::Leak(growth) => info!("memory of {} grows by {growth}", incident.target),
        Reason::Warned(warning) => info!("memory of {} is short: {warning}", incident.target),
        // A kill was told of when it happened.
        Reason::Abs | Reason::Diff { .. } | Reason::Oom | Reason::Manual => {}
    }
}

/// The closing line: what was taken, and what became of it.
fn balance(losses: &Losses) -> String {
    format!("samples: {}", losses.account())
}

/// Which flag would have prevented the losses, if one would.
fn advice(losses: &Losses) -> Option<&'static str> {
    let lost = |cause: &str| losses.lost.iter().any(|(name, n)| name.contains(cause) && *n > 0);
    if lost("ring_full") {
        Some("a larger --ring-bytes loses fewer")
    } else if lost("stacks_full") {
        Some("a larger --window-stacks loses fewer")
    } else if lost("evicted") {
        Some("a larger --window-bytes keeps more")
    } else {
        None
    }
}

/// This program, to start it again. The link leads to it even when its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Names from files, read by a process without rights.
fn symbolizer(names: &NameSettings, debuginfod: Option<Arc<Debuginfod>>) -> Symbolizer {
    Symbolizer::new()
        .debug_dirs(names.debug_dirs.clone())
        .debuginfod(debuginfod)
        .worker(OWN_PROGRAM.into())
}

/// The host's name, for incidents; empty where it has none. In a pod the kernel's is the pod's, and
/// the manifest hands in the node's.
fn host_name() -> String {
    if let Some(node) = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()) {
        return node;
    }
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// An error with its causes, in one line for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
