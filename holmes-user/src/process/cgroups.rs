//! The cgroups of the watched hierarchy, by id.
//!
//! Must not: read a clock or follow links. Bounded: it knows at most as many cgroups as the probes
//! count.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holmes_common::limits::MAX_CGROUPS;
use rustc_hash::{FxHashMap, FxHashSet};

use super::cgroup_walk::{Found, has_tasks, walk};
use super::{Cgroup, Container};
use crate::collect::{CgroupId, Nanos};
use crate::kernel::cgroupfs::Mount;

/// Two scans are at least this far apart, however many unknown ids come in: a scan costs some ten
/// microseconds per cgroup.
const SCAN_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// How long a removed cgroup's path is kept. What was sampled in it is attributed long before.
const KEEP_REMOVED: Duration = Duration::from_secs(60);

/// Cgroups that are kept after they were removed, and ids that are known to be unknown, each. A
/// host that starts and ends more in a minute loses paths, not samples.
const MAX_KEPT: usize = 4096;

/// A cgroup that exists.
#[derive(Clone, Debug)]
struct Live {
    cgroup: Arc<Cgroup>,
    directory: PathBuf,
    has_tasks: bool,
}

/// Every cgroup of the watched hierarchy, as of the last scan, and those that were there a little
/// earlier.
#[derive(Debug, Default)]
pub struct CgroupIndex {
    /// The parts of the tree that are watched, with their paths.
    roots: Vec<(PathBuf, String)>,
    live: FxHashMap<CgroupId, Live>,
    removed: FxHashMap<CgroupId, (Nanos, Arc<Cgroup>)>,
    /// Ids that a scan did not find: gone before it, outside the watched part, or left out.
    unknown: FxHashMap<CgroupId, Arc<Cgroup>>,
    /// Ids that were asked for since the last scan, and not known: the next one decides.
    awaited: FxHashSet<CgroupId>,
    /// Ids removed, or found to be unknown, since they were last asked for.
    to_report: Vec<CgroupId>,
    scanned: Option<Nanos>,
    left_out: u64,
    failed_scans: u64,
}

impl CgroupIndex {
    /// An index of everything that the mount shows. It scans when it is first asked.
    pub fn new(mount: &Mount) -> Self {
        Self::within(mount, [mount.root.as_str()])
    }

    /// An index of the cgroups at these paths from the hierarchy's root, and of those below them.
    pub fn within<'a>(mount: &Mount, paths: impl IntoIterator<Item = &'a str>) -> Self {
        let roots = paths
            .into_iter()
            .filter_map(|path| Some((mount.directory(path)?, path.to_owned())))
            .collect();
        Self { roots, ..Self::default() }
    }

    /// The cgroup with this id. One that is not known is looked for at once, but at most once a
    /// second; if it is not found its path is empty.
    pub fn resolve(&mut self, id: CgroupId, now: Nanos) -> Arc<Cgroup> {
        if let Some(cgroup) = self.find(id) {
            return cgroup;
        }
        let absent = Arc::new(Cgroup { id, path: String::new(), container: None });
        if id == CgroupId::default() {
            return absent;
        }
        if self.awaited.len() < MAX_KEPT {
            self.awaited.insert(id);
        }
        self.refresh(now);
        self.find(id).unwrap_or(absent)
    }

    /// It existed before the scan that did not find it, so no later one will either.
    fn give_up(&mut self, id: CgroupId) {
        if self.unknown.len() >= MAX_KEPT {
            self.unknown.clear();
        }
        self.unknown.insert(id, Arc::new(Cgroup { id, path: String::new(), container: None }));
        // What lived between two scans is never seen removed; what was counted for it must go too.
        self.report(id);
    }

    fn report(&mut self, id: CgroupId) {
        // Nobody may be asking; then what is kept for them stays bounded.
        if self.to_report.len() < 2 * MAX_KEPT {
            self.to_report.push(id);
        }
    }

    fn find(&self, id: CgroupId) -> Option<Arc<Cgroup>> {
        let live = self.live.get(&id).map(|live| &live.cgroup);
        live.or_else(|| self.removed.get(&id).map(|(_, cgroup)| cgroup))
            .or_else(|| self.unknown.get(&id))
            .cloned()
    }

    /// Scans the hierarchy, unless that was done less than a second ago. Whether it was done.
    pub fn refresh(&mut self, now: Nanos) -> bool {
        if self.scanned.is_some_and(|then| now.since(then) < SCAN_AT_MOST_EVERY) {
            return false;
        }
        self.scanned = Some(now);
        self.scan(now);
        true
    }

    fn scan(&mut self, now: Nanos) {
        let mut found = Vec::new();
        self.left_out = 0;
        for (directory, path) in &self.roots {
            let room = (MAX_CGROUPS as usize).saturating_sub(found.len());
            match walk(directory, path, room.max(1)) {
                Ok(walk) => {
                    self.left_out += walk.left_out;
                    found.extend(walk.found);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => self.failed_scans += 1,
            }
        }
        let mut before = std::mem::take(&mut self.live);
        for cgroup in found {
            let id = CgroupId(cgroup.id);
            let live = known_or_new(before.remove(&id), cgroup);
            self.removed.remove(&id);
            self.unknown.remove(&id);
            self.live.insert(id, live);
        }
        // What was not found may be gone, or hidden by a bound or an error.
        for (id, live) in before {
            if still_exists(&live, id) && self.live.len() < MAX_CGROUPS as usize {
                self.live.insert(id, live);
            } else {
                self.retire(id, live.cgroup, now);
            }
        }
        self.removed.retain(|_, (then, _)| now.since(*then) < KEEP_REMOVED);
        for id in std::mem::take(&mut self.awaited) {
            if self.find(id).is_none() {
                self.give_up(id);
            }
        }
    }

    fn retire(&mut self, id: CgroupId, cgroup: Arc<Cgroup>, now: Nanos) {
        if self.removed.len() >= MAX_KEPT {
            let oldest = self.removed.iter().min_by_key(|(id, (then, _))| (*then, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.removed.remove(&oldest);
            }
        }
        self.removed.insert(id, (now, cgroup));
        self.report(id);
    }

    /// The cgroups that exist and have tasks of their own, by path.
    pub fn populated(&self) -> Vec<Arc<Cgroup>> {
        let live = self.live.values().filter(|live| live.has_tasks);
        let mut cgroups: Vec<_> = live.map(|live| Arc::clone(&live.cgroup)).collect();
        cgroups.sort_by(|one, other| one.path.cmp(&other.path));
        cgroups
    }

    /// The ids of cgroups that were removed since this was last called, so that what the kernel
    /// counted for them can be deleted.
    pub fn take_removed(&mut self) -> Vec<CgroupId> {
        std::mem::take(&mut self.to_report)
    }

    /// Cgroups that exist.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no cgroup is known.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Cgroups that the last scan left out because of its bounds.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Scans of a watched part that failed since the start. What was known of it is kept.
    pub fn failed_scans(&self) -> u64 {
        self.failed_scans
    }
}

/// A cgroup that was found, with what is known of it already. A renamed one (v1 allows that) is new.
fn known_or_new(known: Option<Live>, found: Found) -> Live {
    let Found { id, path, directory } = found;
    let has_tasks = has_tasks(&directory);
    let cgroup = match known {
        Some(live) if live.cgroup.path == path => live.cgroup,
        _ => {
            let container = Container::from_path(&path);
            Arc::new(Cgroup { id: CgroupId(id), path, container })
        }
    };
    Live { cgroup, directory, has_tasks }
}

fn still_exists(live: &Live, id: CgroupId) -> bool {
    match fs::metadata(&live.directory) {
        Ok(metadata) => metadata.ino() == id.0,
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests;
