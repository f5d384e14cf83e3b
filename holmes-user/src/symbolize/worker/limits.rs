//! What the naming child gives up before it reads the first byte: rights, files, memory, time.
//!
//! Must not: be called in the recorder itself.

use std::io;

use caps::CapSet;
use rustix::process::{Resource, Rlimit, Signal, chroot, setrlimit};
use thiserror::Error;

/// Private memory, in bytes. Mapped files do not count: their pages go when memory is short. With
/// the recorder's 96 MiB this stays below the 256 MiB of `deploy/daemonset.yaml`.
const MEMORY_BYTES: u64 = 128 << 20;
/// Address space, in bytes: a few files of the largest kind.
const ADDRESS_BYTES: u64 = 64 << 30;
/// The main thread's stack, in bytes: recursion without end finds its end here.
const STACK_BYTES: u64 = 8 << 20;
/// CPU time, in seconds, should the recorder not be there to end it. It ends naming after 2 s.
const CPU_SECONDS: u64 = 30;
/// Descriptors: three to begin with, two files, and each opened again.
const FILES: u64 = 32;

/// Why the child cannot confine itself.
#[derive(Debug, Error)]
pub enum LimitError {
    /// A limit is refused.
    #[error("cannot set the limit on {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Capabilities cannot be dropped.
    #[error("cannot drop capabilities")]
    Capabilities(#[from] caps::errors::CapsError),
}

/// Gives up what naming does not need; whether no file can be reached any more but those that are
/// handed over.
pub(super) fn confine() -> Result<bool, LimitError> {
    let refused =
        |what| move |error: rustix::io::Errno| LimitError::Limit { what, source: error.into() };
    // Should the kernel run out of memory, it takes this process and not the recorder.
    // Ignored: without /proc it is like any other process.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // What `ps` and profiles show; it would be `exe` otherwise. Ignored: a name is not needed.
    let _ = rustix::thread::set_name(c"holmes-names");
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(refused("its life"))?;
    rustix::thread::set_no_new_privs(true).map_err(refused("privileges"))?;
    for (what, resource, limit) in [
        ("memory", Resource::Data, MEMORY_BYTES),
        ("address space", Resource::As, ADDRESS_BYTES),
        ("the stack", Resource::Stack, STACK_BYTES),
        ("CPU time", Resource::Cpu, CPU_SECONDS),
        ("open files", Resource::Nofile, FILES),
        ("core dumps", Resource::Core, 0),
        ("written files", Resource::Fsize, 0),
        ("processes", Resource::Nproc, 0),
    ] {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(resource, limit).map_err(refused(what))?;
    }
    let walled = wall();
    // Dropping from the bounding set takes a right of its own; without it the set below it, and
    // that privileges cannot be gained, are enough.
    let _ = caps::clear(None, CapSet::Bounding);
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)?;
    Ok(walled)
}

/// Makes the folder of its own descriptors all there is of the file system: a link to another file
/// that hostile debug information contains leads nowhere, whatever it says.
fn wall() -> bool {
    std::env::set_current_dir("/proc/self/fd").is_ok() && chroot(".").is_ok()
}
