//! Why the probes could not be loaded at all.

use std::io;

/// The probes cannot be used on this machine, or not with these privileges.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object could not be loaded.
    #[error(
        "cannot load the probes into the kernel; run as root, or `holmes-ebpf check` to see what \
         is missing"
    )]
    Load(#[source] Box<aya::EbpfError>),
    /// A map of the object could not be used.
    #[error("cannot use the probes' map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// The object has no such map.
    #[error(
        "the probes have no map {0}: the embedded object does not fit this program; rebuild it \
         with `cargo xtask ebpf`"
    )]
    NoMap(&'static str),
    /// The target needs the kernel's type information.
    #[error(
        "to follow cgroups the kernel's type information is needed, and {path} cannot be read; \
         a kernel with CONFIG_DEBUG_INFO_BTF has it, and `--pid` works without"
    )]
    NoBtf {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know the controller.
    #[error("this kernel has no cgroup controller `{0}`; name a cgroup of another hierarchy")]
    NoController(String),
    /// The object has no such program.
    #[error(
        "the probes have no program {0}: the embedded object does not fit this program; rebuild \
         it with `cargo xtask ebpf`"
    )]
    NoProgram(&'static str),
    /// Allocations cannot be seen.
    #[error(
        "this kernel has no probes in user space ({path} is not there): allocations need one that \
         is built with CONFIG_UPROBE_EVENTS; `record` without --allocations works without"
    )]
    NoUprobes {
        /// What is missing.
        path: &'static str,
    },
    /// Nobody has this number.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The number.
        pid: u32,
    },
    /// The process's own filter of system calls would end it.
    #[error(
        "process {pid} has a seccomp filter, and on this kernel ({release}) that can kill a process \
         whose functions are probed where they return; 6.12.30 and 6.14 have the correction"
    )]
    Seccomp {
        /// The process.
        pid: u32,
        /// The kernel.
        release: super::release::Release,
    },
    /// A function of an allocator cannot be probed.
    #[error("cannot attach to {function}: {why}; has the process just ended?")]
    AllocatorProbe {
        /// The function.
        function: &'static str,
        /// Why the kernel refuses.
        why: String,
    },
    /// No probe at all could be attached.
    #[error(
        "none of the probes could be attached; the first said: {first}; `holmes-ebpf check` tells \
         what to change"
    )]
    NothingAttached {
        /// Why the first one failed.
        first: String,
    },
}
