//! What the benchmark asks of the kernel for itself: that it counts the run time of BPF programs,
//! and a tracefs for the tools beside the recorder, where the host has none mounted.
//!
//! Must not: leave anything changed. Both end with this process, however it ends.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// `BPF_ENABLE_STATS` of `enum bpf_cmd` in linux/bpf.h.
const BPF_ENABLE_STATS: libc::c_int = 32;

/// `BPF_STATS_RUN_TIME` of `enum bpf_stats_type` in linux/bpf.h.
const BPF_STATS_RUN_TIME: u32 = 0;

/// Run times of BPF programs are counted while this lives.
///
/// It is the descriptor that the kernel counts for, beside `kernel.bpf_stats_enabled`: whoever else
/// wants the statistics keeps them, and nothing is left to set back.
#[derive(Debug)]
pub struct RunTimes {
    _held: OwnedFd,
}

impl RunTimes {
    /// Has them counted from now on.
    ///
    /// # Errors
    /// When the kernel is older than 5.8, or refuses.
    pub fn count() -> Result<Self> {
        let kind = BPF_STATS_RUN_TIME;
        // SAFETY: the kernel reads `size_of(kind)` bytes at the pointer, which is valid for the
        // call; for this command `union bpf_attr` is this one number.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const kind, size_of_val(&kind))
        };
        let fd = i32::try_from(fd).context("a descriptor out of range")?;
        if fd < 0 {
            return Err(io::Error::last_os_error())
                .context("cannot have the kernel count the run time of BPF programs (5.8, root)");
        }
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        Ok(Self { _held: unsafe { OwnedFd::from_raw_fd(fd) } })
    }
}

const TRACEFS: &CStr = c"/sys/kernel/tracing";

/// Gives this process, and those it starts from now on, a tracefs where the host has none mounted,
/// in mounts of their own.
///
/// # Errors
/// When the kernel refuses.
pub fn own_tracefs() -> Result<()> {
    if Path::new("/sys/kernel/tracing/events").is_dir()
        || Path::new("/sys/kernel/debug/tracing/events").is_dir()
    {
        return Ok(());
    }
    let done = |result: libc::c_int, what: &str| {
        if result == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error()).with_context(|| format!("cannot {what}"))
    };
    // SAFETY: no pointers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) }, "have mounts of our own")?;
    let nothing = std::ptr::null();
    // SAFETY: constant texts that end with a zero; the other pointers may be null for this call.
    let private = unsafe {
        libc::mount(
            nothing,
            c"/".as_ptr(),
            nothing,
            libc::MS_REC | libc::MS_PRIVATE,
            nothing.cast(),
        )
    };
    done(private, "keep our mounts from the host")?;
    let kind = c"tracefs".as_ptr();
    // SAFETY: as above.
    let mounted = unsafe { libc::mount(kind, TRACEFS.as_ptr(), kind, 0, nothing.cast()) };
    done(mounted, "mount tracefs")?;
    if !Path::new("/sys/kernel/tracing/events").is_dir() {
        bail!("tracefs is mounted and has no events");
    }
    Ok(())
}
