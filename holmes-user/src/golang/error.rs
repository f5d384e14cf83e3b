//! Why the goroutines of a process, or its heap profile, cannot be told.

use std::io;

use thiserror::Error;

use crate::binary::BinaryError;

/// Why the goroutines of a process, or its heap profile, cannot be told.
#[derive(Debug, Error)]
pub enum GoError {
    /// It has ended, or is a kernel thread.
    #[error("there is no process {pid}, or it has just ended")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// Its memory or its program may not be read.
    #[error(
        "cannot read process {pid}: run as root, or with the capability CAP_SYS_PTRACE in the user \
         namespace of the process"
    )]
    Refused {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel fails in another way.
    #[error("cannot read process {pid}")]
    Read {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program's file cannot be used.
    #[error("cannot use the program of this process")]
    Program(#[from] BinaryError),
    /// It is written in another language.
    #[error("no Go program, or one of before Go 1.18: its file does not say which Go built it")]
    NotGo,
    /// Another processor's code.
    #[error("Go programs are read for x86-64 only, and this one is for another processor")]
    Processor,
    /// Too old, too new, or between two releases.
    #[error(
        "the program was built with {version}, and programs are read of releases of Go 1.{} to 1.{}, and of \
         others since then if their debug information says that no more than places has changed: is there a \
         newer holmes-ebpf?",
        super::layout::OLDEST,
        super::layout::NEWEST
    )]
    Version {
        /// What the program says of itself.
        version: String,
    },
    /// The list of goroutines was not found in the program.
    #[error(
        "the list of goroutines was not found: the runtime's function {function} does not read it in a \
         way that is known (built by another compiler than Go's own?)"
    )]
    NoList {
        /// Whose code was read.
        function: &'static str,
    },
    /// The heap profile was not found in the program.
    #[error(
        "the program's own heap profile was not found: the runtime's function {function} and those around \
         it do not read it in a way that is known (built by another compiler than Go's own?)"
    )]
    NoHeapList {
        /// Whose code was read.
        function: &'static str,
    },
    /// The program keeps no heap profile.
    #[error(
        "it keeps no heap profile of itself: it links no runtime/pprof (nor net/http/pprof), or sets \
         MemProfileRate = 0; its memory by page faults is in memory.pb.gz of an incident (POST /trigger \
         makes one)"
    )]
    NoHeapProfile,
    /// The counts kept changing.
    #[error(
        "the heap profile changed faster than it could be read (one collection after another?): try again"
    )]
    RestlessHeap,
    /// What was read is no list of goroutines.
    #[error(
        "what is in memory is not what {version} keeps there: {what} (the process starts or ends just \
         now, its heap is corrupt, or its Go was changed)"
    )]
    Nonsense {
        /// What the program says of itself.
        version: String,
        /// What was wrong.
        what: &'static str,
    },
    /// It executed another program, or another process has its number now.
    #[error("process {pid} executed another program meanwhile: try again")]
    Changed {
        /// The process.
        pid: u32,
    },
    /// Much of what the list of goroutines points to is not there.
    #[error(
        "too many goroutines of process {pid} are not in memory: it ends just now, or its heap is corrupt"
    )]
    Scattered {
        /// The process.
        pid: u32,
    },
    /// The list kept moving.
    #[error("the list of goroutines grew faster than it could be read: try again")]
    Restless,
}

impl GoError {
    /// Whether it may be another time: it is not about the program.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Program(BinaryError::Malformed(_))
            | Self::NotGo
            | Self::Processor
            | Self::Version { .. }
            | Self::NoList { .. }
            | Self::NoHeapList { .. } => false,
            Self::Gone { .. }
            | Self::Refused { .. }
            | Self::Read { .. }
            | Self::Program(BinaryError::Read(_))
            | Self::Nonsense { .. }
            | Self::Changed { .. }
            | Self::Scattered { .. }
            | Self::NoHeapProfile
            | Self::RestlessHeap
            | Self::Restless => true,
        }
    }

    /// Of a system call on a process.
    pub(super) fn of(pid: u32, source: io::Error) -> Self {
        match source.raw_os_error() {
            // What memory says of too many missing pieces.
            Some(libc::EFAULT) => Self::Scattered { pid },
            Some(libc::ESRCH | libc::ENOENT) => Self::Gone { pid },
            Some(libc::EPERM | libc::EACCES) => Self::Refused { pid, source },
            _ => Self::Read { pid, source },
        }
    }
}
