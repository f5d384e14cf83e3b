//! A child with fewer rights or other mounts than the test: for the tests of what is missing.
//!
//! Must not: touch the test's own process. Everything happens in the child, between fork and exec,
//! in a mount namespace of its own that ends with it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::refusal::Refusal;

/// Numbers above the last capability are refused by the kernel, which ends the loop over them.
const MOST_CAPABILITIES: libc::c_ulong = 64;

/// User and group `nobody`.
const NOBODY: u32 = 65534;

/// Where tracefs is mounted, the inner one first.
const TRACEFS: [&CStr; 3] =
    [c"/sys/kernel/debug/tracing", c"/sys/kernel/tracing", c"/sys/kernel/debug"];

/// What the child does to itself before it executes the program.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    without_tracefs: bool,
    small_disk: Option<(CString, CString)>,
    file_over: Option<(CString, CString)>,
    without_capabilities: bool,
    as_nobody: bool,
    refusal: Option<Refusal>,
}

impl Confinement {
    /// No tracefs is mounted in the child's world.
    pub fn without_tracefs(mut self) -> Self {
        self.without_tracefs = true;
        self
    }

    /// `folder` is a file system of its own with room for `bytes`, seen by the child alone.
    ///
    /// # Errors
    /// The path holds a NUL.
    pub fn small_disk(mut self, folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        let folder = CString::new(folder.as_os_str().as_bytes()).context("a path with a NUL")?;
        let options = CString::new(format!("size={bytes},mode=0755")).context("mount options")?;
        self.small_disk = Some((folder, options));
        Ok(self)
    }

    /// Where `file` is, the child sees `other`.
    ///
    /// # Errors
    /// A path holds a NUL.
    pub fn file_over(mut self, file: &Path, other: &Path) -> anyhow::Result<Self> {
        let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
        self.file_over = Some((
            path(file).context("a path with a NUL")?,
            path(other).context("a path with a NUL")?,
        ));
        Ok(self)
    }

    /// Root without any capability.
    pub fn without_capabilities(mut self) -> Self {
        self.without_capabilities = true;
        self
    }

    /// The user `nobody`.
    pub fn as_nobody(mut self) -> Self {
        self.as_nobody = true;
        self
    }

    /// A kernel that refuses one of the child's programs once.
    pub fn refused(mut self, refusal: &Refusal) -> Self {
        self.refusal = Some(refusal.clone());
        self
    }

    /// Has `command` do all this when it is spawned.
    ///
    /// # Errors
    /// A pair of sockets cannot be made.
    pub fn apply(&self, command: &mut Command) -> anyhow::Result<()> {
        // First: it takes rights.
        if let Some(refusal) = &self.refusal {
            refusal.apply(command)?;
        }
        let steps = self.clone();
        // SAFETY: runs in the child after fork and calls system calls only; everything that is
        // allocated (the paths) was allocated before.
        unsafe {
            command.pre_exec(move || steps.enter());
        }
        Ok(())
    }

    fn enter(&self) -> io::Result<()> {
        if self.without_tracefs || self.small_disk.is_some() || self.file_over.is_some() {
            own_mounts()?;
        }
        if self.without_tracefs {
            unmount_tracefs();
        }
        if let Some((folder, options)) = &self.small_disk {
            mount_tmpfs(folder, options)?;
        }
        if let Some((file, other)) = &self.file_over {
            mount_over(file, other)?;
        }
        if self.without_capabilities {
            drop_capabilities();
        }
        if self.as_nobody {
            become_nobody()?;
        }
        Ok(())
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn own_mounts() -> io::Result<()> {
    // SAFETY: no pointer.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: static strings; the arguments that this kind of mount ignores are null.
    checked(unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
    })
}

fn unmount_tracefs() {
    for place in TRACEFS {
        // It may be mounted several times over one another; the first refusal means "no more".
        // SAFETY: a static string.
        while unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) } == 0 {}
    }
}

fn mount_tmpfs(folder: &CStr, options: &CStr) -> io::Result<()> {
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: all strings end with NUL and live through the call.
    checked(unsafe { libc::mount(tmpfs, folder.as_ptr(), tmpfs, 0, options.as_ptr().cast()) })
}

fn mount_over(file: &CStr, other: &CStr) -> io::Result<()> {
    let (kind, data) = (std::ptr::null(), std::ptr::null());
    // SAFETY: both strings end with NUL and live through the call; the other arguments are ignored.
    checked(unsafe { libc::mount(other.as_ptr(), file.as_ptr(), kind, libc::MS_BIND, data) })
}

/// Root gets the bounding set at exec: an empty one leaves no capability.
fn drop_capabilities() {
    for capability in 0..MOST_CAPABILITIES {
        // SAFETY: no pointer. Refused above the last capability, where there is nothing to drop.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

fn become_nobody() -> io::Result<()> {
    // SAFETY: an empty list needs no memory.
    checked(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: no pointer.
    checked(unsafe { libc::setgid(NOBODY) })?;
    // SAFETY: no pointer.
    checked(unsafe { libc::setuid(NOBODY) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, confinement: &Confinement) -> anyhow::Result<String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir("/");
        confinement.apply(&mut command)?;
        Ok(String::from_utf8_lossy(&command.output()?.stdout).trim().to_owned())
    }

    #[test]
    fn a_confined_child_has_lost_what_it_should() -> anyhow::Result<()> {
        if !crate::machine::is_root() {
            eprintln!("not run: only root may do this");
            return Ok(());
        }
        let bare = Confinement::default();
        let capabilities = "grep CapEff /proc/self/status | cut -f2";
        assert_ne!(shell(capabilities, &bare)?, "0000000000000000");
        let less = bare.clone().without_capabilities();
        assert_eq!(shell(capabilities, &less)?, "0000000000000000");
        assert_eq!(shell("id -u", &bare.clone().as_nobody())?, "65534");
        let traceless = bare.clone().without_tracefs();
        assert_eq!(shell("grep -c tracefs /proc/self/mounts", &traceless)?, "0");
        let folder = tempfile::tempdir()?;
        let small = bare.small_disk(folder.path(), 64 << 10)?;
        let free = format!("stat -f -c '%S %b' {}", folder.path().display());
        assert_eq!(shell(&free, &small)?, "4096 16");
        Ok(())
    }
}
