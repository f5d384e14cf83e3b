//! Looks at the heap profiles that Go programs keep of themselves, for incidents of memory.
//!
//! Must not: fail because of a process: what cannot be read is told in the log and left out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::{PROC, Recorder};
use crate::capture::GoHeapLook;
use crate::collect::clock;
use crate::golang::{GoError, GoProcess, HeapProfile};
use crate::signals::{MemoryReport, Target};
use crate::window::ProcessHeap;

/// Processes of which it is read for one incident, the largest first. Each takes some milliseconds.
const MAX_PROCESSES: usize = 8;

/// No other process is begun with after this long: one with the most stacks that are read takes most of a
/// second, and the recorder does nothing else meanwhile.
const MAX_TIME: Duration = Duration::from_secs(1);

impl Recorder {
    /// Reads those of the target's largest processes; `None` if none of them keeps one.
    pub(super) fn look_at_go_heap(
        &mut self,
        target: &Target,
        report: &MemoryReport,
    ) -> Option<GoHeapLook> {
        let begin = clock::monotonic();
        let mut processes = Vec::new();
        for process in &report.largest {
            if clock::monotonic().since(begin) > MAX_TIME {
                warn!(
                    "the incident of {target} has not all heap profiles of Go programs: too many"
                );
                break;
            }
            let Some(profile) = heap_of(process.pid, target) else { continue };
            let path = self.live.watched.cgroup_of(process.pid, Path::new(PROC));
            let owner = self.owner_of(process.pid, path.unwrap_or_default());
            processes.push(ProcessHeap::of(&profile, Arc::new(owner)));
            if processes.len() >= MAX_PROCESSES {
                break;
            }
        }
        if processes.is_empty() {
            return None;
        }
        Some(GoHeapLook { time: clock::monotonic(), target: target.clone(), processes })
    }
}

fn heap_of(pid: u32, target: &Target) -> Option<HeapProfile> {
    match GoProcess::open(Path::new(PROC), pid).and_then(|process| process.heap()) {
        Ok(profile) => Some(profile),
        Err(GoError::NotGo) => None,
        Err(error @ GoError::NoHeapProfile) => {
            debug!("the incident of {target} has no heap profile of pid {pid}: {error}");
            None
        }
        Err(error) => {
            warn!("the incident of {target} has no heap profile of pid {pid}: {error}");
            None
        }
    }
}
