//! Looks at the goroutines of targets whose rule has just fired.
//!
//! Must not: fail because of a process: what cannot be read is told in the log and left out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{PROC, Recorder};
use crate::capture::{GoroutineLook, Input};
use crate::collect::{CgroupId, Comm, clock};
use crate::golang::GoProcess;
use crate::process::{Cgroup, Container};
use crate::signals::Target;
use crate::window::{Owner, ProcessGoroutines};

/// Processes looked at for one incident: the rest of a host has few goroutines, and the recorder does
/// nothing else meanwhile.
const MAX_PROCESSES: usize = 16;

/// Time for all of them; the recorder does nothing else meanwhile. One of 100,000 goroutines takes 0.2 s.
const MAX_TIME: Duration = Duration::from_secs(2);

impl Recorder {
    /// Looks at the goroutines of those targets; right after the reading that fired.
    pub(super) fn look_at_goroutines(&mut self) {
        for target in self.flight.goroutines_wanted() {
            let processes = self.goroutines_of(&target);
            let time = clock::monotonic();
            self.feed(Input::Goroutines(GoroutineLook { time, target, processes }));
        }
    }

    fn goroutines_of(&mut self, target: &Target) -> Vec<ProcessGoroutines> {
        let processes = self.reader.go_processes(target);
        let mut found = Vec::new();
        let begin = clock::monotonic();
        for (pid, path) in processes.into_iter().take(MAX_PROCESSES) {
            if clock::monotonic().since(begin) > MAX_TIME {
                warn!(
                    "the incident of {target} has no goroutines of pid {pid} and others: no time"
                );
                break;
            }
            let snapshot = GoProcess::open(Path::new(PROC), pid).and_then(|it| it.snapshot());
            let snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    warn!("the incident of {target} has no goroutines of pid {pid}: {error}");
                    continue;
                }
            };
            let owner = self.owner_of(pid, path);
            found.push(ProcessGoroutines::of(&snapshot, None, Arc::new(owner)));
        }
        found
    }

    /// Whose a process's stacks are; with the path of its cgroup.
    pub(super) fn owner_of(&mut self, pid: u32, path: String) -> Owner {
        let comm = std::fs::read_to_string(Path::new(PROC).join(pid.to_string()).join("comm"));
        let cgroup =
            Cgroup { id: CgroupId::default(), container: Container::from_path(&path), path };
        Owner {
            tgid: pid,
            comm: Comm::from(comm.unwrap_or_default().trim_end().to_owned()),
            cgroup: Arc::new(cgroup),
            image: self.live.attributor.prepare(pid, clock::monotonic()),
            recorder: false,
        }
    }
}
