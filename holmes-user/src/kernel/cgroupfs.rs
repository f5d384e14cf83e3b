//! The host's cgroup file systems: where each hierarchy is mounted, which one the probes follow,
//! and which cgroup a user's path means, on cgroup v2, v1 and hybrid hosts.
//!
//! Must not: read what a cgroup uses, or keep anything that changes while the recorder runs.

mod error;
mod locate;
pub(super) mod mountinfo;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

pub use error::CgroupfsError;
pub use locate::Located;
use mountinfo::{Flavour, MountLine};

/// Where the kernel lists the mounts of this process.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The most of it that is read, in bytes: a node with a thousand containers has some 3 MiB.
const MAX_MOUNTINFO: u64 = 16 << 20;

/// The file that every cgroup of every hierarchy has, and nothing else.
pub(crate) const PROCS: &str = "cgroup.procs";

/// A tree of cgroups. A task is in exactly one cgroup of each hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hierarchy {
    /// cgroup v2.
    Unified,
    /// cgroup v1.
    V1 {
        /// The controller that stands for the hierarchy, by its mount option (`memory`, `blkio`).
        controller: &'static str,
    },
}

impl Hierarchy {
    /// The kernel's name of the subsystem, for `<name>_cgrp_id` in BTF; `None` for the unified
    /// hierarchy, which has no need of one.
    pub fn subsystem(self) -> Option<&'static str> {
        match self {
            Self::Unified => None,
            Self::V1 { controller } => mountinfo::subsystem(controller),
        }
    }

    /// The path of a process's cgroup in this hierarchy, from its `/proc/PID/cgroup`: lines
    /// `number:controllers:path` (cgroups(7)).
    pub fn path_in<'a>(&self, cgroups: &'a str) -> Option<&'a str> {
        cgroups.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            let here = match self {
                Self::Unified => controllers.is_empty(),
                Self::V1 { controller } => controllers.split(',').any(|name| name == *controller),
            };
            // So it is marked once it was removed, which does not change whose it was.
            here.then(|| path.strip_suffix(" (deleted)").unwrap_or(path))
        })
    }
}

impl std::fmt::Display for Hierarchy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unified => write!(out, "cgroup v2"),
            Self::V1 { controller } => write!(out, "cgroup v1 {controller}"),
        }
    }
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which one.
    pub hierarchy: Hierarchy,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The path of the cgroup seen at the mount point: `/`, but in a container that sees only its
    /// own part of the tree.
    pub root: String,
    /// Its controllers. For the unified hierarchy those that the mounted root offers, which may be
    /// none on a hybrid host.
    pub controllers: Vec<String>,
}

impl Mount {
    /// The directory of the cgroup with this path from the hierarchy's root; `None` where the
    /// mount does not show it, and for paths that climb.
    pub fn directory(&self, path: &str) -> Option<PathBuf> {
        let inside = match self.root.as_str() {
            "/" => path,
            root => {
                path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?
            }
        };
        let climbs = inside.split('/').any(|segment| segment == "..");
        (!climbs).then(|| self.point.join(inside.trim_start_matches('/')))
    }

    /// The path from the hierarchy's root of a directory below the mount point; `None` for others,
    /// and where it is not UTF-8.
    pub fn path_of(&self, directory: &Path) -> Option<String> {
        let inside = directory.strip_prefix(&self.point).ok()?.to_str()?;
        Some(match (self.root.as_str(), inside) {
            (root, "") => root.to_owned(),
            ("/", inside) => format!("/{inside}"),
            (root, inside) => format!("{root}/{inside}"),
        })
    }
}

/// Every mounted cgroup hierarchy of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    unified: Option<Mount>,
    /// One per hierarchy, the most useful for following tasks first.
    v1: Vec<Mount>,
    /// Mount points of hierarchies without a controller, with their names.
    named: Vec<(PathBuf, String)>,
}

impl Layout {
    /// The layout that this process sees.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read.
    pub fn read() -> Result<Self, CgroupfsError> {
        let mut bytes = Vec::new();
        File::open(MOUNTINFO)
            .and_then(|file| file.take(MAX_MOUNTINFO).read_to_end(&mut bytes))
            .map_err(|source| CgroupfsError::Mountinfo { path: MOUNTINFO.into(), source })?;
        Ok(Self::from_mountinfo(&String::from_utf8_lossy(&bytes)))
    }

    /// The layout that a mountinfo text describes. Mount points that do not show a cgroup (another
    /// file system was mounted over them) are left out.
    pub fn from_mountinfo(text: &str) -> Self {
        let mut lines = mountinfo::parse(text);
        lines.retain(|line| line.point.join(PROCS).exists());
        // The same hierarchy may be mounted several times; the mount that shows most of it wins,
        // among equals the first. A sort keeps the order of equals.
        lines.sort_by_key(|line| reach(&line.root));
        let mut layout = Self::default();
        for line in lines {
            layout.add(line);
        }
        layout.v1.sort_by_key(|mount| preference(mount.hierarchy));
        layout
    }

    fn add(&mut self, line: MountLine) {
        let mount = |hierarchy, controllers| Mount {
            hierarchy,
            point: line.point.clone(),
            root: visible_root(&line.root),
            controllers,
        };
        match line.flavour {
            Flavour::Unified if self.unified.is_none() => {
                // Unreadable is the same as none: the hierarchy still tells tasks apart.
                let controllers =
                    fs::read_to_string(line.point.join("cgroup.controllers")).unwrap_or_default();
                let controllers = controllers.split_whitespace().map(str::to_owned).collect();
                self.unified = Some(mount(Hierarchy::Unified, controllers));
            }
            Flavour::V1(controllers) if self.v1(controllers[0]).is_none() => {
                let hierarchy = Hierarchy::V1 { controller: controllers[0] };
                let controllers = controllers.into_iter().map(str::to_owned).collect();
                self.v1.push(mount(hierarchy, controllers));
            }
            Flavour::Unified | Flavour::V1(_) => {}
            Flavour::Named(name) => self.named.push((line.point, name)),
        }
    }

    /// The mounted unified hierarchy.
    pub fn unified(&self) -> Option<&Mount> {
        self.unified.as_ref()
    }

    /// The mounted v1 hierarchy with this controller (by its mount option).
    pub fn v1(&self, controller: &str) -> Option<&Mount> {
        self.v1.iter().find(|mount| mount.controllers.iter().any(|name| name == controller))
    }

    /// The mount of a hierarchy.
    pub fn mount(&self, hierarchy: Hierarchy) -> Option<&Mount> {
        match hierarchy {
            Hierarchy::Unified => self.unified(),
            Hierarchy::V1 { controller } => self.v1(controller),
        }
    }

    /// Every hierarchy that probes can follow, in the order in which a path is looked for.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.unified.iter().chain(&self.v1)
    }

    /// The hierarchy that the probes follow when the whole host is watched: the one that holds the
    /// containers. That is the unified one where it has controllers, or where there is no other;
    /// else the v1 hierarchy of `memory`, or the nearest to it. `None` without cgroups.
    pub fn watched(&self) -> Option<&Mount> {
        let in_use = |mount: &&Mount| {
            mount.controllers.iter().any(|controller| controller == "memory" || controller == "cpu")
        };
        self.unified().filter(in_use).or(self.v1.first()).or(self.unified())
    }
}

/// How much of its tree a mount with this root shows: less is more. A root that climbs was mounted
/// from outside this process's cgroup namespace and shows more than the namespace's own.
fn reach(root: &str) -> (std::cmp::Reverse<usize>, usize) {
    let climbs = root.split('/').filter(|segment| *segment == "..").count();
    let descends = root.split('/').filter(|segment| !matches!(*segment, "" | "..")).count();
    (std::cmp::Reverse(climbs), descends)
}

/// The root of a mount as a path. One that climbs out of this process's cgroup namespace cannot be
/// expressed; what is seen there is then taken for the whole.
fn visible_root(root: &str) -> String {
    let climbs = root.split('/').any(|segment| segment == "..");
    if climbs { "/".to_owned() } else { root.to_owned() }
}

/// Place in the order of [`mountinfo`]'s controllers.
fn preference(hierarchy: Hierarchy) -> usize {
    match hierarchy {
        Hierarchy::Unified => 0,
        Hierarchy::V1 { controller } => mountinfo::rank(controller),
    }
}

#[cfg(test)]
mod tests;
