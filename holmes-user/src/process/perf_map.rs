//! The file in which a process's JIT compiler says what it has compiled, opened with care: the
//! process chose everything about it.
//!
//! Format: `/tmp/perf-PID.map` in the process's own root, by its number in its own pid namespace
//! (`tools/perf/Documentation/jit-interface.txt` of Linux). Node writes it with `--perf-basic-prof`,
//! Python with `-X perf`, a JVM when `jcmd PID Compiler.perfmap` asks for it.
//!
//! Must not: follow a link out of the process's root, wait for a FIFO, or open what another user
//! has put in the file's place.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::image::Image;

/// Bytes read of `/proc/PID/status`; it has about 1500.
const MAX_STATUS_BYTES: u64 = 16 << 10;

/// `struct open_how` of openat2(2), which libc marks as not to be built by others.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// The perf-map file of the process that an image is of, if it still runs and has one.
///
/// It is opened anew at each call: a JVM writes a new one whenever it is asked to.
pub fn perf_map(image: &Image) -> Option<File> {
    let process = Path::new("/proc").join(image.tgid.to_string());
    let is_same = || super::table::start_time(&process).is_ok_and(|it| it == image.start_time);
    // Again when it is open: the number may have got a new owner meanwhile.
    let file = is_same().then(|| open(&process, image.tgid))?.ok()?;
    is_same().then_some(file)
}

/// Opens the perf-map file of the process whose folder of `/proc` this is.
pub(super) fn open(process: &Path, tgid: u32) -> io::Result<File> {
    let status =
        io::read_to_string(io::Read::take(File::open(process.join("status"))?, MAX_STATUS_BYTES))?;
    let last = |key| field(&status, key).next_back().unwrap_or(tgid);
    let user = field(&status, "Uid:").nth(1);
    let path = format!("tmp/perf-{}.map\0", last("NSpid:"));
    // O_PATH: this opens the folder a magic link leads to, and nothing of it is read.
    let root = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(process.join("root"))?;
    let how = OpenHow {
        flags: (libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
    };
    // SAFETY: `path` is NUL-terminated, and `how` is an `open_how` of the size that is given; both
    // outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    let place = unsafe { File::from_raw_fd(fd as i32) };
    let metadata = place.metadata()?;
    // As perf has it: the process's user or root wrote it. With a second name it may be a file that
    // the process cannot read itself.
    let owner = metadata.uid();
    let is_trusted = owner == 0 || Some(owner) == user;
    if !metadata.is_file() || !is_trusted || metadata.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a file of the process"));
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// The numbers behind a key of `/proc/PID/status`.
fn field<'a>(status: &'a str, key: &str) -> impl DoubleEndedIterator<Item = u32> + use<'a> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests;
