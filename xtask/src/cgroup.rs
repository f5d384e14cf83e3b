//! A cgroup of our own: one folder in every hierarchy that counts something, as container runtimes
//! make them.
//!
//! Must not: touch a cgroup that it did not make.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Where every distribution mounts them.
const MOUNT: &str = "/sys/fs/cgroup";

/// Hierarchies of a v1 or hybrid host that the recorder may read. `unified` is hybrid's v2 tree.
const V1_HIERARCHIES: [&str; 6] = ["unified", "cpu", "cpuacct", "memory", "pids", "cpu,cpuacct"];

/// How often removing is tried again: the kernel needs a moment after the last process ended.
const REMOVAL_ATTEMPTS: u32 = 50;

/// The cgroup. Removed on drop.
#[derive(Debug)]
pub struct Cgroup {
    /// Never empty.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes one for this purpose.
    ///
    /// # Errors
    /// When no hierarchy is mounted, or a folder cannot be made.
    pub fn create(purpose: &str) -> Result<Self> {
        let name = format!("holmes-{purpose}-{}", std::process::id());
        let mut cgroup = Self { folders: Vec::new() };
        for hierarchy in hierarchies(Path::new(MOUNT)) {
            let folder = hierarchy.join(&name);
            std::fs::create_dir(&folder)
                .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
            cgroup.folders.push(folder);
        }
        if cgroup.folders.is_empty() {
            bail!("no cgroup hierarchy below {MOUNT}; mount one: mount -t cgroup2 none {MOUNT}");
        }
        Ok(cgroup)
    }

    /// Makes one inside, which must be dropped first.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn child(&self, name: &str) -> Result<Self> {
        let mut child = Self { folders: Vec::new() };
        for folder in self.folders.iter().map(|folder| folder.join(name)) {
            std::fs::create_dir(&folder)
                .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
            child.folders.push(folder);
        }
        Ok(child)
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// When the process has ended, or the kernel refuses.
    pub fn admit(&self, pid: u32) -> Result<()> {
        for join in self.joins() {
            std::fs::write(&join, pid.to_string())
                .with_context(|| format!("cannot move process {pid} by {}", join.display()))?;
        }
        Ok(())
    }

    /// The folder that the recorder is pointed at.
    pub fn path(&self) -> &Path {
        &self.folders[0]
    }

    /// The files that a process joins it by.
    pub fn joins(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            let removed = (0..REMOVAL_ATTEMPTS).any(|_| {
                let removed = std::fs::remove_dir(folder).is_ok();
                if !removed {
                    std::thread::sleep(Duration::from_millis(100));
                }
                removed
            });
            if !removed {
                eprintln!("could not remove the cgroup; run: rmdir {}", folder.display());
            }
        }
    }
}

/// Roots of the hierarchies: the mount itself where it is v2, else v1's, each once.
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    if mount.join("cgroup.controllers").is_file() {
        return vec![mount.to_path_buf()];
    }
    let mut seen = BTreeSet::new();
    V1_HIERARCHIES
        .iter()
        .map(|name| mount.join(name))
        .filter(|folder| folder.join("cgroup.procs").is_file())
        // `cpu` may be a link to `cpu,cpuacct`.
        .filter_map(|folder| folder.canonicalize().ok())
        .filter(|folder| seen.insert(folder.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(folders: &[&str]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for folder in folders {
            let folder = mount.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("cgroup.procs"), "").unwrap();
        }
        mount
    }

    fn names(mount: &tempfile::TempDir) -> Vec<String> {
        let root = mount.path().canonicalize().unwrap();
        let name = |path: PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
        hierarchies(&root).into_iter().map(name).collect()
    }

    #[test]
    fn pure_v2_is_its_own_hierarchy() {
        let mount = mount(&["", "cpu"]);
        std::fs::write(mount.path().join("cgroup.controllers"), "cpu").unwrap();
        assert_eq!(names(&mount), [""]);
    }

    #[test]
    fn a_hybrid_host_has_the_v2_tree_first_and_each_v1_hierarchy_once() {
        let mount = mount(&["unified", "cpu,cpuacct", "memory", "devices"]);
        for link in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", mount.path().join(link)).unwrap();
        }
        assert_eq!(names(&mount), ["unified", "cpu,cpuacct", "memory"]);
    }
}
