//! A cgroup of a test's own, removed with everything in it when dropped; with a limit on its memory
//! where a test asks for one.
//!
//! Must not: move or end a process that it did not start, or touch another cgroup.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Tells the cgroups of one test binary apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// How long the kernel may take to let go of a cgroup whose last process was killed.
const REMOVAL_GUARD: Duration = Duration::from_secs(10);

/// Which tree of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// cgroup v2.
    Unified,
    /// The cgroup v1 hierarchy of this controller.
    V1(&'static str),
}

/// A cgroup named `holmes-test-<pid>-<n>`.
#[derive(Debug)]
pub struct TestCgroup {
    mount: PathBuf,
    path: PathBuf,
}

impl TestCgroup {
    /// Makes one in the v2 tree.
    ///
    /// # Errors
    /// There is no such tree, or it cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        Self::in_hierarchy(Hierarchy::Unified)
    }

    /// Makes one where this machine has the memory controller: in v1's hierarchy, or in the v2 tree.
    ///
    /// # Errors
    /// It has none, or it cannot be used.
    pub fn of_memory() -> anyhow::Result<Self> {
        match Self::in_hierarchy(Hierarchy::V1("memory")) {
            Ok(cgroup) => Ok(cgroup),
            Err(_) => Self::new(),
        }
    }

    /// Limits the memory of what is in a cgroup of [`TestCgroup::of_memory`]; there is no way out by
    /// swapping.
    ///
    /// # Errors
    /// The controller is not here, or refuses.
    pub fn limit_memory(&self, bytes: u64) -> anyhow::Result<()> {
        let v1 = self.path.join("memory.limit_in_bytes");
        let limit = if v1.exists() { v1 } else { self.path.join("memory.max") };
        write(&limit, &bytes.to_string())?;
        // Without swap there is nothing to switch off, and in v1 nothing to do it with: what is
        // swapped out counts with the rest where the kernel counts it at all.
        for (file, value) in [("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", bytes)] {
            let file = self.path.join(file);
            if file.exists() {
                write(&file, &value.to_string())?;
            }
        }
        Ok(())
    }

    /// Lets the children have limits of their own. In v2 no process may then be in this cgroup itself.
    ///
    /// # Errors
    /// The controller is not here, or refuses.
    pub fn share_memory_control(&self) -> anyhow::Result<()> {
        let control = self.path.join("cgroup.subtree_control");
        if control.exists() { write(&control, "+memory") } else { Ok(()) }
    }

    /// Has the kernel kill all of it together; `false` in v1, which cannot.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_memory_as_a_group(&self) -> anyhow::Result<bool> {
        let group = self.path.join("memory.oom.group");
        if group.exists() {
            write(&group, "1")?;
        }
        Ok(group.exists())
    }

    /// Makes one in this hierarchy.
    ///
    /// # Errors
    /// It is not mounted, or cannot be written.
    pub fn in_hierarchy(hierarchy: Hierarchy) -> anyhow::Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
        let mount = mount_point(&mounts, hierarchy)
            .with_context(|| format!("no cgroup hierarchy {hierarchy:?} is mounted"))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("holmes-test-{}-{number}", std::process::id());
        let path = mount.join(name);
        fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
        Ok(Self { mount, path })
    }

    /// Makes a cgroup inside this one. Drop it first.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn child(&self, name: &str) -> anyhow::Result<Self> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
        Ok(Self { mount: self.mount.clone(), path })
    }

    /// Where it is in the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path from the hierarchy's root, beginning with `/`: as profiles and metrics show it.
    pub fn name(&self) -> String {
        let relative = self.path.strip_prefix(&self.mount).unwrap_or(&self.path);
        format!("/{}", relative.display())
    }

    /// Has `command` move itself into this cgroup before it executes its program.
    ///
    /// # Errors
    /// The cgroup cannot be opened.
    pub fn join_at_exec(&self, command: &mut Command) -> anyhow::Result<()> {
        let members = self.path.join("cgroup.procs");
        let file: OwnedFd = fs::OpenOptions::new()
            .write(true)
            .open(&members)
            .with_context(|| format!("opening {}", members.display()))?
            .into();
        // SAFETY: one system call in the child, on a descriptor the closure owns, with a static
        // string. "0" is "whoever writes".
        unsafe {
            command.pre_exec(move || {
                let text = b"0";
                match libc::write(file.as_raw_fd(), text.as_ptr().cast(), text.len()) {
                    1 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        Ok(())
    }

    fn members(&self) -> Vec<libc::pid_t> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).collect()
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + REMOVAL_GUARD;
        loop {
            // Nobody else knows this cgroup: its members are the test's children and theirs.
            for pid in self.members() {
                // SAFETY: no pointer. One that has ended meanwhile needs no signal.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            match fs::remove_dir(&self.path) {
                Ok(()) => return,
                Err(error) if Instant::now() > deadline => {
                    eprintln!("the cgroup {} stays behind: {error}", self.path.display());
                    return;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

fn write(file: &Path, value: &str) -> anyhow::Result<()> {
    fs::write(file, value).with_context(|| format!("writing {value} to {}", file.display()))
}

/// Finds a hierarchy in the text of `/proc/self/mounts`.
fn mount_point(mounts: &str, hierarchy: Hierarchy) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = match hierarchy {
            Hierarchy::Unified => kind == "cgroup2",
            Hierarchy::V1(name) => kind == "cgroup" && options.split(',').any(|part| part == name),
        };
        fits.then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_by_kind_and_controller() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n";
        let found = |hierarchy| mount_point(mounts, hierarchy);
        assert_eq!(found(Hierarchy::Unified), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(found(Hierarchy::V1("cpuacct")), Some("/sys/fs/cgroup/cpu".into()));
        assert_eq!(found(Hierarchy::V1("memory")), None);
    }

    #[test]
    fn a_cgroup_holds_its_child_and_goes_with_it() -> anyhow::Result<()> {
        if !crate::machine::is_root() {
            eprintln!("not run: only root may do this");
            return Ok(());
        }
        let outer = TestCgroup::new()?;
        let inner = outer.child("inner")?;
        let mut command = Command::new("sleep");
        command.arg("1000");
        inner.join_at_exec(&mut command)?;
        let mut child = command.spawn()?;
        assert_eq!(inner.members(), [libc::pid_t::try_from(child.id())?]);
        let paths = [inner.path().to_owned(), outer.path().to_owned()];
        drop(inner);
        drop(outer);
        assert!(!child.wait()?.success());
        assert!(paths.iter().all(|path| !path.exists()));
        Ok(())
    }
}
