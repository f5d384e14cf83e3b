//! Findings about mounts, the kernel's log, the dump folder and the limit of open files.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;

use super::Roots;
use super::finding::Finding;

/// Descriptors that leave room for the executables of a host with a few hundred processes, which
/// are held open so that they can be read after they are deleted.
const ENOUGH_FILES: u64 = 1024;

pub(super) fn findings(roots: &Roots, dump_dir: &Path) -> Vec<Finding> {
    let mounts = Mounts::read(roots);
    vec![cgroups(&mounts), kernel_log(roots), dump_folder(dump_dir), open_files(roots)]
}

/// The mounts this process sees.
pub(super) struct Mounts(Vec<MountInfo>);

impl Mounts {
    /// Reads them; a line that is not understood is left out.
    pub(super) fn read(roots: &Roots) -> Self {
        let text = roots.proc("self/mountinfo").unwrap_or_default();
        Self(text.lines().filter_map(|line| MountInfo::from_line(line).ok()).collect())
    }

    /// An option of the file system mounted at a path.
    pub(super) fn option(&self, path: &str, kind: &str, name: &str) -> Option<String> {
        // The last mount at a path hides those before it.
        let mount = self
            .0
            .iter()
            .rev()
            .find(|mount| mount.mount_point == Path::new(path) && mount.fs_type == kind)?;
        mount.super_options.get(name).or_else(|| mount.mount_options.get(name)).cloned().flatten()
    }

    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &MountInfo> {
        self.0.iter().filter(move |mount| mount.fs_type == kind)
    }
}

fn cgroups(mounts: &Mounts) -> Finding {
    let (name, enables) = ("cgroups", "a target for each service and container");
    let unified = mounts.of_kind("cgroup2").next().map(|mount| mount.mount_point.display());
    let controllers = ["cpu", "cpuacct", "memory", "pids"].into_iter().filter(|controller| {
        mounts.of_kind("cgroup").any(|mount| mount.super_options.contains_key(*controller))
    });
    let controllers: Vec<_> = controllers.collect();
    match (unified, controllers.is_empty()) {
        (Some(path), true) => Finding::ok(name, enables, format!("v2 at {path}")),
        (Some(path), false) => Finding::ok(
            name,
            enables,
            format!("hybrid: v2 at {path}, v1 for {}", controllers.join(", ")),
        ),
        (None, false) => Finding::ok(name, enables, format!("v1 for {}", controllers.join(", "))),
        (None, true) => Finding::degraded(name, enables, "none mounted; only the host is watched")
            .fix(
                "sudo mount -t cgroup2 none /sys/fs/cgroup\nDocker: -v \
                 /sys/fs/cgroup:/sys/fs/cgroup:ro --cgroupns=host",
            ),
    }
}

fn kernel_log(roots: &Roots) -> Finding {
    let (name, enables) = ("kernel log", "what the kernel says of those it kills for memory");
    let path = roots.dev.join("kmsg");
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
        Ok(_) => Finding::ok(name, enables, format!("{}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::degraded(
            name,
            enables,
            format!("no {}; incidents of kills come without it", path.display()),
        )
        .fix("Docker: --device /dev/kmsg"),
        Err(error) => {
            Finding::degraded(name, enables, format!("{} cannot be read: {error}", path.display()))
                .fix("sudo holmes-ebpf, or allow CAP_SYSLOG")
        }
    }
}

fn dump_folder(dump_dir: &Path) -> Finding {
    let (name, enables) = ("dump folder", "incidents on disk");
    let shown = dump_dir.display();
    // What does not exist yet is made by the recorder, below the nearest folder that does.
    let absolute = std::path::absolute(dump_dir).unwrap_or_else(|_| dump_dir.to_owned());
    let existing: PathBuf = absolute
        .ancestors()
        .find(|folder| folder.symlink_metadata().is_ok())
        .unwrap_or(Path::new("/"))
        .to_owned();
    if !existing.is_dir() {
        return Finding::missing(name, enables, format!("{} is no folder", existing.display()))
            .fix("name another one with --dump-dir");
    }
    match writable(&existing) {
        Ok(()) if existing == absolute => Finding::ok(name, enables, format!("{shown}")),
        Ok(()) => Finding::ok(name, enables, format!("{shown} will be made")),
        Err(error) => Finding::missing(
            name,
            enables,
            format!("{} cannot be written: {error}", existing.display()),
        )
        .fix(format!(
            "sudo install -d -o \"$(id -un)\" '{shown}', or name another one with --dump-dir"
        )),
    }
}

fn writable(folder: &Path) -> io::Result<()> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the path is a NUL-terminated string that lives through the call.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The soft value of a limit in the text of `/proc/self/limits`.
pub(super) fn limit<'t>(limits: &'t str, name: &str) -> Option<&'t str> {
    limits.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next())
}

fn open_files(roots: &Roots) -> Finding {
    let (name, enables) = ("open files", "names from executables that are deleted");
    let limits = roots.proc("self/limits").unwrap_or_default();
    let Some(soft) = limit(&limits, "Max open files") else {
        return Finding::ok(name, enables, "limit unknown");
    };
    match soft.parse::<u64>() {
        Ok(most) if most < ENOUGH_FILES => {
            Finding::degraded(name, enables, format!("at most {most}"))
                .fix("ulimit -n 65536\nsystemd: LimitNOFILE=65536\nDocker: --ulimit nofile=65536")
        }
        _ => Finding::ok(name, enables, format!("at most {soft}")),
    }
}
