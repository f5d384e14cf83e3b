//! The emulator, the server of the host's files, and the guest's shell: Debian's programs with all
//! that they load, in a folder of ours. They run on any host, whatever it has installed.
//!
//! Must not: install anything on the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::Apt;
use crate::command;

/// Debian 13's. QEMU before 8.1 is no choice: on an emulated CPU it could go on with an instruction
/// that another CPU had just replaced, and a guest whose tracepoints are switched on and off then
/// hangs in `syscall_trace_enter`.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "virtiofsd", "busybox-static"];

/// Where libraries are, below the folder.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Debian's programs in a folder.
#[derive(Debug)]
pub struct Hypervisor {
    folder: PathBuf,
    /// What was downloaded just now, in bytes; 0 when all was in the cache.
    pub downloaded: u64,
}

impl Hypervisor {
    /// Makes sure that the programs are in the cache.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub fn fetch(apt: &Apt, cache: &Path) -> Result<Self> {
        let folder = cache.join("hypervisor");
        let mut downloaded = 0;
        if !folder.exists() {
            let unfinished = cache.join("hypervisor-unfinished");
            if unfinished.exists() {
                std::fs::remove_dir_all(&unfinished)
                    .with_context(|| format!("cannot remove {}", unfinished.display()))?;
            }
            downloaded = apt.unpack(&PACKAGES, true, &unfinished)?;
            // Only now: a download that was interrupted must not look finished.
            std::fs::rename(&unfinished, &folder).context("cannot keep the emulator")?;
        }
        Ok(Self { folder, downloaded })
    }

    /// A shell and small tools, linked statically: they run in the guest before it has any file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn busybox(&self) -> Result<Vec<u8>> {
        let file = self.folder.join("usr/bin/busybox");
        std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// The server of the host's files, for one guest that connects to `socket`. Ends with it.
    pub fn file_server(&self, socket: &Path) -> Command {
        let mut server = self.program("usr/libexec/virtiofsd");
        server.arg(format!("--socket-path={}", socket.display()));
        // Announced, each of the host's file systems would be one of the guest's, and such a file
        // system is no layer to lay another above.
        server.args(["--shared-dir=/", "--readonly", "--cache=always", "--sandbox=chroot"]);
        server.args(["--no-announce-submounts", "--thread-pool-size=2", "--log-level=warn"]);
        server
    }

    /// The emulator.
    pub fn emulator(&self) -> Command {
        let mut emulator = self.program("usr/bin/qemu-system-x86_64");
        let modules = self.folder.join(LIBRARIES).join("qemu");
        emulator.env("QEMU_MODULE_DIR", modules);
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            emulator.arg("-L").arg(self.folder.join(data));
        }
        emulator
    }

    /// A program with the loader and the libraries that came with it.
    fn program(&self, path: &str) -> Command {
        let libraries = self.folder.join(LIBRARIES);
        let loader = libraries.join("ld-linux-x86-64.so.2");
        // The guest's files are the host's, of any owner.
        let mut command = command::as_root(&loader);
        command.arg("--library-path").arg(libraries).arg(self.folder.join(path));
        command
    }
}
