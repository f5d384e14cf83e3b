//! Which cgroup a user's path means.
//!
//! Must not: know about probes; it only names a cgroup that exists now.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::{CgroupfsError, Hierarchy, Layout, Mount, PROCS};

/// How many similar names an error shows: enough to recognise a slip, few enough for a line.
const MAX_NEAR: usize = 5;

/// How many directories are looked through for similar names.
const MAX_SEARCHED: usize = 4096;

/// A cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The hierarchy it lies in.
    pub hierarchy: Hierarchy,
    /// That hierarchy's mount point.
    pub mount: PathBuf,
    /// Its path from the hierarchy's root, beginning with `/`.
    pub path: String,
    /// Its inode number, which is the id that probes see.
    pub id: u64,
}

impl Layout {
    /// The cgroup that a user means: an absolute path below a mount point, or a path relative to
    /// one, with or without a leading slash. A relative path is looked for in the unified
    /// hierarchy first, then in the v1 ones; it never means the working directory.
    ///
    /// # Errors
    /// When there is no such cgroup, with what to try instead.
    pub fn locate(&self, path: &Path) -> Result<Located, CgroupfsError> {
        if self.mounts().next().is_none() {
            return Err(CgroupfsError::NoMount { path: path.to_owned() });
        }
        // Symbolic links such as /sys/fs/cgroup/cpuacct -> cpu,cpuacct are resolved.
        let resolved = match fs::canonicalize(path) {
            Ok(resolved) if path.is_absolute() => Some(resolved),
            Ok(_) => None,
            Err(error) if is_missing(&error) => None,
            Err(source) if path.is_absolute() => {
                return Err(CgroupfsError::Unreadable { path: path.to_owned(), source });
            }
            Err(_) => None,
        };
        if let Some(resolved) = &resolved {
            if let Some(mount) = self.holding(resolved) {
                return self.describe(path, mount, resolved);
            }
            if let Some((_, name)) =
                self.named.iter().find(|(point, _)| resolved.starts_with(point))
            {
                let (path, name) = (path.to_owned(), name.clone());
                return Err(CgroupfsError::NamedHierarchy { path, name, mounts: self.points() });
            }
        }
        for mount in self.mounts() {
            for directory in below(mount, path) {
                // A path that climbs may lead out of the mount again.
                match fs::canonicalize(&directory) {
                    Ok(found) if found.starts_with(&mount.point) && is_cgroup(&found) => {
                        return self.describe(path, mount, &found);
                    }
                    Ok(_) => {}
                    Err(error) if is_missing(&error) => {}
                    Err(source) => {
                        return Err(CgroupfsError::Unreadable { path: path.to_owned(), source });
                    }
                }
            }
        }
        let path = path.to_owned();
        Err(if resolved.is_some() {
            CgroupfsError::NotACgroup { path, mounts: self.points() }
        } else {
            let near = self.near(&path);
            CgroupfsError::NotFound { path, looked_in: self.points(), near }
        })
    }

    /// The cgroups that a user means, which must lie in one hierarchy: the probes follow one.
    ///
    /// # Errors
    /// When one of them cannot be found, or they lie in several hierarchies.
    pub fn locate_all(&self, paths: &[PathBuf]) -> Result<Vec<Located>, CgroupfsError> {
        let located: Vec<_> =
            paths.iter().map(|path| self.locate(path)).collect::<Result<_, _>>()?;
        for (cgroup, path) in located.iter().zip(paths).skip(1) {
            if cgroup.hierarchy != located[0].hierarchy {
                return Err(CgroupfsError::SeveralHierarchies {
                    first: paths[0].clone(),
                    first_in: located[0].hierarchy,
                    second: path.clone(),
                    second_in: cgroup.hierarchy,
                });
            }
        }
        Ok(located)
    }

    /// The mount that shows this directory: the deepest, as mounts may nest.
    fn holding(&self, directory: &Path) -> Option<&Mount> {
        let deepest = self
            .mounts()
            .filter(|mount| directory.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())?;
        let hidden = self
            .named
            .iter()
            .any(|(point, _)| directory.starts_with(point) && point.starts_with(&deepest.point));
        (!hidden).then_some(deepest)
    }

    fn describe(
        &self,
        asked: &Path,
        mount: &Mount,
        directory: &Path,
    ) -> Result<Located, CgroupfsError> {
        let not_a_cgroup =
            || CgroupfsError::NotACgroup { path: asked.to_owned(), mounts: self.points() };
        if !is_cgroup(directory) {
            return Err(not_a_cgroup());
        }
        let metadata = fs::metadata(directory)
            .map_err(|source| CgroupfsError::Unreadable { path: asked.to_owned(), source })?;
        Ok(Located {
            hierarchy: mount.hierarchy,
            mount: mount.point.clone(),
            path: mount.path_of(directory).ok_or_else(not_a_cgroup)?,
            id: metadata.ino(),
        })
    }

    fn points(&self) -> Vec<String> {
        self.mounts().map(|mount| mount.point.display().to_string()).collect()
    }

    /// Cgroups whose path is like the one asked for, best first: siblings of the deepest part of
    /// it that exists, and cgroups elsewhere with the same last name.
    fn near(&self, path: &Path) -> Vec<String> {
        let Some(wanted) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            return Vec::new();
        };
        let mut found: Vec<(usize, String)> = Vec::new();
        for mount in self.mounts() {
            let inside = path.starts_with(&mount.point).then(|| path.to_owned());
            let parents = inside.into_iter().chain(below(mount, path)).filter_map(|directory| {
                let mut above = directory.ancestors().skip(1);
                let parent = above.find(|parent| parent.is_dir())?;
                let climbs = parent.components().any(|part| part == Component::ParentDir);
                (parent.starts_with(&mount.point) && !climbs).then(|| parent.to_owned())
            });
            for parent in parents.chain([mount.point.clone()]) {
                found.extend(children(&parent).into_iter().filter_map(|name| {
                    let score = likeness(&wanted, &name);
                    (score > 0).then(|| (score, parent.join(name).display().to_string()))
                }));
            }
        }
        found.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        found.dedup();
        found.into_iter().map(|(_, name)| name).take(MAX_NEAR).collect()
    }
}

/// The directories that a path relative to a mount may mean: below its mount point, or, where the
/// mount shows only a part of the tree, from the tree's root.
fn below(mount: &Mount, path: &Path) -> Vec<PathBuf> {
    let inside: PathBuf = path
        .components()
        .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
        .collect();
    let mut directories = vec![mount.point.join(&inside)];
    if mount.root != "/" {
        let from_root = inside.to_str().and_then(|path| mount.directory(&format!("/{path}")));
        directories.extend(from_root);
    }
    directories
}

fn is_cgroup(directory: &Path) -> bool {
    directory.join(PROCS).exists()
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn children(directory: &Path) -> Vec<String> {
    // An unreadable directory has no names to offer; the error it is for is already being told.
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .take(MAX_SEARCHED)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// How alike two names are; 0 is not at all. The same name beats one that contains the other,
/// which beats a common beginning of two letters or more.
fn likeness(wanted: &str, name: &str) -> usize {
    let common = wanted.chars().zip(name.chars()).take_while(|(one, other)| one == other).count();
    if wanted == name {
        1000
    } else if !wanted.is_empty() && (name.contains(wanted) || wanted.contains(name)) {
        500 + common.min(400)
    } else if common >= 2 {
        common.min(400)
    } else {
        0
    }
}
