//! What the user asked to watch, found on this host.
//!
//! Must not: read any value of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::reader::SignalReader;
use super::reading::Target;
use super::sources::Sources;
use crate::kernel::TargetFilter;
use crate::kernel::cgroupfs::{CgroupfsError, Layout, Located, Mount};
use crate::process::cgroup_walk::members;
use crate::process::{Cgroup, CgroupIndex, Container, is_within};
use crate::settings::Watch;

/// What the user asked for cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupfsError),
    /// A process.
    #[error(
        "there is no process {pid}: it has ended, or has another number here (`pgrep NAME` finds \
         the number; in a container the host's processes need `hostPID: true`)"
    )]
    NoProcess {
        /// The number given.
        pid: u32,
    },
}

/// What is watched.
#[derive(Clone, Debug)]
enum What {
    Host,
    Cgroups(Vec<Located>),
    Processes(Vec<u32>),
}

/// The targets, found on this host.
#[derive(Clone, Debug)]
pub struct Watched {
    what: What,
    layout: Layout,
    /// The hierarchy that cgroup ids are taken from; `None` on a host without cgroups.
    mount: Option<Mount>,
}

impl Watched {
    /// Finds what `watch` names.
    ///
    /// # Errors
    /// If a cgroup or a process does not exist; the message says what to try.
    pub fn find(watch: &Watch, layout: Layout, proc_root: &Path) -> Result<Self, WatchError> {
        let what = match watch {
            Watch::Host => What::Host,
            Watch::Cgroups(paths) => What::Cgroups(layout.locate_all(paths)?),
            Watch::Processes(pids) => {
                pids.iter().try_for_each(|&pid| must_exist(pid, proc_root))?;
                What::Processes(pids.clone())
            }
        };
        let mount = match &what {
            What::Cgroups(cgroups) => {
                cgroups.first().and_then(|cgroup| layout.mount(cgroup.hierarchy))
            }
            What::Host | What::Processes(_) => layout.watched(),
        }
        .cloned();
        Ok(Self { what, layout, mount })
    }

    /// For the probes: which tasks.
    pub fn filter(&self) -> TargetFilter {
        match &self.what {
            What::Host => TargetFilter::Host,
            What::Cgroups(cgroups) => {
                TargetFilter::Cgroups(cgroups.iter().map(|cgroup| cgroup.id).collect())
            }
            What::Processes(pids) => TargetFilter::Processes(pids.iter().copied().collect()),
        }
    }

    /// The processes there are now of what the user named, the first so many; none for the whole
    /// host.
    pub fn processes(&self, at_most: usize) -> Vec<u32> {
        let mut pids: Vec<u32> = match &self.what {
            What::Host => Vec::new(),
            What::Processes(pids) => pids.clone(),
            What::Cgroups(cgroups) => cgroups
                .iter()
                .filter_map(|cgroup| self.mount.as_ref()?.directory(&cgroup.path))
                .flat_map(|directory| members(&directory, at_most))
                .collect(),
        };
        pids.truncate(at_most);
        pids
    }

    /// For the probes: the subsystem whose hierarchy cgroup ids are taken from; `None` for the
    /// unified one.
    pub fn controller(&self) -> Option<String> {
        self.mount.as_ref()?.hierarchy.subsystem().map(str::to_owned)
    }

    /// The cgroups by id.
    pub fn cgroup_index(&self) -> Option<CgroupIndex> {
        let mount = self.mount.as_ref()?;
        Some(match &self.what {
            What::Cgroups(cgroups) => {
                CgroupIndex::within(mount, cgroups.iter().map(|cgroup| cgroup.path.as_str()))
            }
            What::Host | What::Processes(_) => CgroupIndex::new(mount),
        })
    }

    /// The reader of the targets' signals.
    pub fn signal_reader(&self, proc_root: &Path) -> SignalReader {
        let sources = Sources::at(self.layout.clone(), proc_root);
        match &self.what {
            What::Host => SignalReader::of_host(sources),
            What::Cgroups(cgroups) => SignalReader::of_cgroups(sources, cgroups),
            What::Processes(pids) => SignalReader::of_processes(sources, pids),
        }
    }

    /// Whether the user named this cgroup.
    pub fn names(&self, cgroup: &Cgroup) -> bool {
        matches!(&self.what, What::Cgroups(named) if named.iter().any(|one| one.path == cgroup.path))
    }

    /// What an incident without a rule is about: the host, or each target that the user named.
    pub fn targets(&self) -> Vec<Target> {
        match &self.what {
            What::Host => vec![Target::Host],
            What::Cgroups(cgroups) => cgroups.iter().map(|cgroup| target(&cgroup.path)).collect(),
            What::Processes(pids) => pids.iter().map(|&pid| Target::Process { pid }).collect(),
        }
    }

    /// The cgroup that somebody names while the recorder runs.
    ///
    /// # Errors
    /// If there is none.
    pub fn find_cgroup(&self, path: &Path) -> Result<Target, WatchError> {
        Ok(target(&self.layout.locate(path)?.path))
    }

    /// The process that somebody names while the recorder runs.
    ///
    /// # Errors
    /// If there is none.
    pub fn find_process(&self, pid: u32, proc_root: &Path) -> Result<Target, WatchError> {
        must_exist(pid, proc_root)?;
        Ok(Target::Process { pid })
    }

    /// Whose incident the death of a process in this cgroup is, as far as that is known; `None` if it
    /// is not watched. Where the whole host is, it is the cgroup's own.
    pub fn target_of(&self, pid: u32, cgroup: Option<&str>) -> Option<Target> {
        match &self.what {
            What::Host => Some(match cgroup {
                Some(path) if path.len() > 1 => target(path),
                _ => Target::Host,
            }),
            What::Cgroups(named) => named
                .iter()
                .filter(|one| cgroup.is_some_and(|path| is_within(path, &one.path)))
                .max_by_key(|one| one.path.len())
                .map(|one| target(&one.path)),
            What::Processes(pids) => pids.contains(&pid).then_some(Target::Process { pid }),
        }
    }

    /// The path of a process's cgroup in the watched hierarchy; `None` if it has gone.
    pub fn cgroup_of(&self, pid: u32, proc_root: &Path) -> Option<String> {
        let mount = self.mount.as_ref()?;
        let text = fs::read_to_string(proc_root.join(pid.to_string()).join("cgroup")).ok()?;
        mount.hierarchy.path_in(&text).map(str::to_owned)
    }

    /// Whether anything of a target is watched: an incident of what is not would be empty.
    pub fn covers(&self, target: &Target) -> bool {
        match (&self.what, target) {
            (What::Host, _) => true,
            (What::Cgroups(named), Target::Cgroup { path, .. }) => {
                named.iter().any(|one| is_within(path, &one.path))
            }
            // A process may be in any of the cgroups: the window knows.
            (What::Cgroups(_), Target::Process { .. }) => true,
            (What::Processes(pids), Target::Process { pid }) => pids.contains(pid),
            (What::Cgroups(_) | What::Processes(_), _) => false,
        }
    }

    /// Looks whether a named cgroup was removed and made again, as a restarted container's is: the
    /// new ids, for the probes.
    pub fn take_remade(&mut self) -> Vec<u64> {
        let What::Cgroups(cgroups) = &mut self.what else { return Vec::new() };
        let mut remade = Vec::new();
        for cgroup in cgroups {
            let directory = self.mount.as_ref().and_then(|mount| mount.directory(&cgroup.path));
            // Asked every second, and hardly ever the case: one look is enough to see that not.
            let is_same = |directory: &PathBuf| {
                fs::metadata(directory).is_ok_and(|metadata| metadata.ino() == cgroup.id)
            };
            if directory.as_ref().is_some_and(is_same) {
                continue;
            }
            let found = directory.and_then(|directory| self.layout.locate(&directory).ok());
            // One that is gone keeps its id: it may come back.
            if let Some(found) = found.filter(|found| found.id != cgroup.id) {
                remade.push(found.id);
                cgroup.id = found.id;
            }
        }
        remade
    }
}

fn must_exist(pid: u32, proc_root: &Path) -> Result<(), WatchError> {
    let exists = proc_root.join(pid.to_string()).is_dir();
    if exists { Ok(()) } else { Err(WatchError::NoProcess { pid }) }
}

fn target(path: &str) -> Target {
    Target::Cgroup { path: path.to_owned(), container: Container::from_path(path) }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.what, &self.mount) {
            (What::Host, Some(mount)) => {
                write!(out, "the whole host, cgroups of {}", mount.hierarchy)
            }
            (What::Host, None) => write!(out, "the whole host, which has no cgroups"),
            (What::Cgroups(_) | What::Processes(_), _) => {
                let targets: Vec<String> = self.targets().iter().map(Target::to_string).collect();
                write!(out, "{}", targets.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(what: What) -> Watched {
        Watched { what, layout: Layout::default(), mount: None }
    }

    fn located(path: &str) -> Located {
        use crate::kernel::cgroupfs::Hierarchy;
        Located { hierarchy: Hierarchy::Unified, mount: "/".into(), path: path.to_owned(), id: 1 }
    }

    #[test]
    fn a_death_is_the_nearest_watched_ones() {
        let host = watched(What::Host);
        assert_eq!(host.target_of(7, Some("/app/web")), Some(target("/app/web")));
        assert_eq!(host.target_of(7, Some("/")), Some(Target::Host));
        assert_eq!(host.target_of(7, None), Some(Target::Host));
        let cgroups = watched(What::Cgroups(vec![located("/app"), located("/app/web")]));
        assert_eq!(cgroups.target_of(7, Some("/app/web/x")), Some(target("/app/web")));
        assert_eq!(cgroups.target_of(7, Some("/app/db")), Some(target("/app")));
        assert_eq!(cgroups.target_of(7, Some("/apple")), None);
        assert_eq!(cgroups.target_of(7, None), None);
        let processes = watched(What::Processes(vec![7]));
        assert_eq!(processes.target_of(7, None), Some(Target::Process { pid: 7 }));
        assert_eq!(processes.target_of(8, Some("/app")), None);
    }

    #[test]
    fn only_what_is_watched_is_covered() {
        let pid = Target::Process { pid: 7 };
        let host = watched(What::Host);
        assert!(host.covers(&Target::Host) && host.covers(&pid) && host.covers(&target("/a")));
        let cgroups = watched(What::Cgroups(vec![located("/app")]));
        assert!(cgroups.covers(&target("/app")) && cgroups.covers(&target("/app/worker")));
        assert!(!cgroups.covers(&target("/apple")) && !cgroups.covers(&target("/")));
        assert!(!cgroups.covers(&Target::Host) && cgroups.covers(&pid));
        let processes = watched(What::Processes(vec![7]));
        assert!(processes.covers(&pid) && !processes.covers(&Target::Process { pid: 8 }));
        assert!(!processes.covers(&target("/app")) && !processes.covers(&Target::Host));
    }
}
