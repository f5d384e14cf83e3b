//! The functions of an allocator, and the probes on them.
//!
//! A probe in user space is the one thing here that changes a process: the kernel puts a breakpoint on
//! each function, in this process alone, and takes it away again.
//!
//! Must not: look for the functions. Whoever did says in which file and where.

use std::fs::{self, File};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::path::Path;

use aya::Ebpf;
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeScope};

use super::attach::chain;
use super::error::KernelError;
use super::features::Roots;
use super::probes::Probes;
use super::release::Release;

/// Where the kernel says that it has such probes.
const UPROBES: &str = "/sys/bus/event_source/devices/uprobe/type";

/// Threads that are looked at for a filter of system calls.
const MAX_THREADS: usize = 4096;

/// The program behind all functions that return memory.
const RETURNS: &str = "allocation_return";

/// The program of those that give memory back, which need no other.
const GIVES_BACK: &str = "allocation_free";

/// Functions by name, and the program for what their arguments mean. The C standard's, POSIX's and
/// glibc's; every allocator that stands in for libc's has these names.
const FUNCTIONS: [(&str, &str); 11] = [
    ("malloc", "allocation_first"),
    ("valloc", "allocation_first"),
    ("pvalloc", "allocation_first"),
    ("calloc", "allocation_product"),
    ("realloc", "allocation_again"),
    ("reallocarray", "allocation_product_again"),
    ("aligned_alloc", "allocation_second"),
    ("memalign", "allocation_second"),
    ("posix_memalign", "allocation_out"),
    ("free", GIVES_BACK),
    ("cfree", GIVES_BACK),
];

/// Their names; a place in it is what [`AllocatorFunction::name`] holds.
pub const ALLOCATOR_NAMES: [&str; FUNCTIONS.len()] = {
    let mut names = [""; FUNCTIONS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = FUNCTIONS[at].0;
        at += 1;
    }
    names
};

/// A function of an allocator.
#[derive(Clone, Copy, Debug)]
pub struct AllocatorFunction<'a> {
    /// A place in [`ALLOCATOR_NAMES`].
    pub name: usize,
    /// The file that it is in.
    pub file: &'a File,
    /// The offset in it of its first instruction, in bytes.
    pub offset: u64,
}

impl Probes {
    /// Attaches to these functions, in one process. No two may be at the same place.
    ///
    /// # Errors
    /// The kernel has no such probes, or refuses one.
    pub fn attach_allocator(
        &mut self,
        pid: u32,
        functions: &[AllocatorFunction<'_>],
    ) -> Result<(), KernelError> {
        if !Path::new(UPROBES).exists() {
            return Err(KernelError::NoUprobes { path: UPROBES });
        }
        if let Some(release) = Roots::default().release().filter(|&it| is_filtered(it))
            && has_filter(pid)
        {
            return Err(KernelError::Seccomp { pid, release });
        }
        let process = NonZeroU32::new(pid).ok_or(KernelError::NoProcess { pid })?;
        let program = |function: &AllocatorFunction<'_>| {
            FUNCTIONS.get(function.name).map_or(GIVES_BACK, |(_, program)| program)
        };
        // What ends a call before what begins one, and what gives back before what allocates: so
        // nothing begins whose end goes unseen.
        let returns = functions.iter().filter(|function| program(function) != GIVES_BACK);
        let (frees, makes): (Vec<_>, Vec<_>) =
            functions.iter().partition(|function| program(function) == GIVES_BACK);
        let all = returns
            .map(|function| (RETURNS, function))
            .chain(frees.into_iter().chain(makes).map(|function| (program(function), function)));
        for (program, function) in all {
            attach(&mut self.ebpf, process, program, function)?;
        }
        Ok(())
    }
}

/// Whether a process's own filter of system calls sees the one by which the kernel ends a probed
/// function, which no filter knows: from 6.11, where it came, to the releases that take it past filters
/// (`seccomp: passthrough uretprobe systemcall without filtering`, in 6.14 and stable ones). The process
/// would be killed, see github.com/systemd/systemd/issues/34615.
fn is_filtered(release: Release) -> bool {
    let fixed = release.minor == 12 && release.patch >= 30;
    (Release::new(6, 11)..Release::new(6, 14)).contains(&release) && !fixed
}

/// Whether a thread of the process has a filter of system calls. One that cannot be read may have.
fn has_filter(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.filter_map(Result::ok).take(MAX_THREADS).any(|thread| {
        // A thread that has ended meanwhile has none.
        fs::read_to_string(thread.path().join("status")).is_ok_and(|status| filters(&status))
    })
}

/// Whether `status` tells of a filter: a mode other than 0 (proc_pid_status(5)).
fn filters(status: &str) -> bool {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() != "0")
}

fn attach(
    ebpf: &mut Ebpf,
    process: NonZeroU32,
    name: &'static str,
    function: &AllocatorFunction<'_>,
) -> Result<(), KernelError> {
    let refused = |why: String| KernelError::AllocatorProbe {
        function: ALLOCATOR_NAMES.get(function.name).copied().unwrap_or_default(),
        why,
    };
    let program = ebpf.program_mut(name).ok_or(KernelError::NoProgram(name))?;
    let program: &mut UProbe = program.try_into().map_err(|error| refused(chain(&error)))?;
    if program.fd().is_err() {
        program.load().map_err(|error| refused(chain(&error)))?;
    }
    // The file that is open, whatever has become of its name.
    let path = format!("/proc/self/fd/{}", function.file.as_raw_fd());
    let place = UProbeAttachLocation::AbsoluteOffset(function.offset);
    let attached = program.attach(place, path, UProbeScope::OneProcess(process));
    attached.map(drop).map_err(|error| refused(chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_kill_by_a_filter() {
        let filtered = |text| is_filtered(Release::parse(text).unwrap());
        for text in ["6.11.0", "6.11.9", "6.12.0-1-amd64", "6.12.29", "6.13.5"] {
            assert!(filtered(text), "{text}");
        }
        for text in ["5.10.0-28", "6.10.11", "6.12.38+deb13-amd64", "6.14.0", "6.18.2", "7.0.0"] {
            assert!(!filtered(text), "{text}");
        }
    }

    #[test]
    fn a_filter_is_told_by_the_mode() {
        assert!(filters("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!filters("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!filters("Name:\tx\n"));
        assert!(has_filter(u32::MAX), "a process that cannot be looked at");
    }
}
