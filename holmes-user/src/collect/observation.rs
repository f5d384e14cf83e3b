//! What one probe record says, decoded and owned.

use std::fmt;
use std::sync::Arc;

use holmes_common::counter::Stream;
use holmes_common::limits::COMM_LEN;
use holmes_common::unwind::WalkEnd;
use serde::{Deserialize, Serialize};

use super::wait_cause::WaitCause;

/// A point in `CLOCK_MONOTONIC`, in nanoseconds. The only clock of the data path; the wall clock
/// comes in as an input of its own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// This many whole seconds after the clock's zero.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// The whole second this point lies in: the window's bucket.
    pub const fn second(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// `duration` later, at most the end of time.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos().try_into().unwrap_or(u64::MAX)))
    }

    /// `duration` earlier, at least zero.
    pub fn minus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_nanos().try_into().unwrap_or(u64::MAX)))
    }

    /// Time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A cgroup's inode number in the watched hierarchy; 0 is "unknown".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// A task's name. Up to 15 bytes that the task itself chose; shown with replacement characters
/// where they are not UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Comm([u8; COMM_LEN]);

impl Comm {
    /// From the kernel's NUL-terminated bytes.
    pub const fn new(bytes: [u8; COMM_LEN]) -> Self {
        Self(bytes)
    }

    /// As text, for labels and logs.
    pub fn text(&self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(COMM_LEN);
        String::from_utf8_lossy(&self.0[..end]).into_owned()
    }
}

impl From<String> for Comm {
    fn from(text: String) -> Self {
        let mut bytes = [0; COMM_LEN];
        let len = text.len().min(COMM_LEN - 1);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self(bytes)
    }
}

impl From<Comm> for String {
    fn from(comm: Comm) -> Self {
        comm.text()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.text())
    }
}

/// The exact stack of one moment, raw addresses, leaf first in both parts.
///
/// Every address but the leaf's is a return address: it points behind the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// User-space frames, in the address space of the task's process.
    pub user: Box<[u64]>,
    /// Kernel frames; empty where the CPU was in user space. They come before the user frames.
    pub kernel: Box<[u64]>,
}

/// How the walk of a user stack ended. It concerns the probes' tables alone, so it is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Why.
    pub end: WalkEnd,
    /// The address at which it ended before the outermost frame; 0 if it did not.
    pub stopped_at: u64,
    /// The memory that was walked, if the probes were told to copy it.
    pub copy: Option<Arc<StackMemory>>,
}

/// The registers and the memory that a walk began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackMemory {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer: the address of the first byte of `bytes`.
    pub sp: u64,
    /// Frame pointer register.
    pub bp: u64,
    /// Upwards from the stack pointer, as far as it could be read.
    pub bytes: Box<[u8]>,
}

impl Default for Walk {
    fn default() -> Self {
        Self { end: WalkEnd::NotWalked, stopped_at: 0, copy: None }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A CPU was found executing the task.
    CpuSample,
    /// `mmap` of this length in bytes.
    Mmap {
        /// Bytes asked for, in all calls that this one stands for.
        bytes: u64,
        /// How many these are.
        #[serde(default = "one")]
        calls: u64,
    },
    /// `brk` that moved the heap's end up.
    Brk {
        /// Bytes gained, in all calls that this one stands for.
        bytes: u64,
        /// How many these are.
        #[serde(default = "one")]
        calls: u64,
    },
    /// `mremap` that made a mapping larger.
    Mremap {
        /// Bytes gained, in all calls that this one stands for.
        bytes: u64,
        /// How many these are.
        #[serde(default = "one")]
        calls: u64,
    },
    /// The task touched a page that was not there: a sample of its page faults.
    Fault {
        /// The address touched.
        address: u64,
        /// Bytes of memory that it stands for; none if the page turned out to be none of the process's.
        bytes: u64,
        /// What kind of memory it is.
        #[serde(default)]
        memory: Memory,
    },
    /// The process gave memory back in which faults had been sampled.
    Released {
        /// The first address.
        start: u64,
        /// Bytes from there on.
        bytes: u64,
    },
    /// The process moved memory in which faults had been sampled.
    Moved {
        /// The first address before.
        from: u64,
        /// The first address since.
        to: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The task created a thread in its process.
    NewThread {
        /// The new thread's id.
        tid: u32,
    },
    /// The task created a process.
    NewProcess {
        /// The new process's id.
        tgid: u32,
    },
    /// The process executed a new program.
    Exec,
    /// The thread ended. [`holmes_common::record::flag::LAST_THREAD`] says whether it was the last
    /// of its process.
    Exit,
    /// The kernel kills the process because memory ran out.
    OomVictim,
    /// A sampled allocation was made.
    Allocation {
        /// Its address.
        address: u64,
        /// Bytes asked for.
        bytes: u64,
        /// Sampling intervals that it stands for; 0 if it is as long as one, and stands for itself.
        intervals: u8,
    },
    /// A sampled allocation is given back.
    Free {
        /// Its address.
        address: u64,
    },
    /// The thread left the CPU.
    Wait {
        /// Waits that it stands for.
        waits: u64,
        /// Which one of the thread's it is, around and around.
        number: u8,
        /// What for.
        cause: WaitCause,
        /// The address of the futex that it waits for; 0 if it waits for something else.
        lock: u64,
    },
    /// Somebody has looked, and the thread waits.
    Blocked {
        /// Since when; the moment of the look where the kernel does not tell.
        since: Nanos,
        /// Which one of the thread's waits it is, around and around.
        number: u8,
        /// What for.
        cause: WaitCause,
        /// The address of the futex that it waits for; 0 if it waits for something else.
        lock: u64,
    },
    /// The thread has the CPU again.
    WaitEnd {
        /// Which one of its waits is over.
        number: u8,
    },
}

/// Of recordings that were made before a record could stand for several calls.
const fn one() -> u64 {
    1
}

/// What kind of memory was touched.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// It was gone before anybody could look.
    #[default]
    Unknown,
    /// The process's own: heap, stacks, anonymous mappings, private copies of a file's pages.
    Anonymous,
    /// The same, in huge pages.
    AnonymousHuge,
    /// Pages of a file or of shared memory.
    File,
}

impl Memory {
    /// The value of the label `memory`; `None` where it is not known.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Anonymous => Some("anonymous"),
            Self::AnonymousHuge => Some("anonymous_huge"),
            Self::File => Some("file_or_shared"),
        }
    }
}

impl What {
    /// The stream whose counters count it.
    pub const fn stream(&self) -> Stream {
        match self {
            Self::CpuSample => Stream::Samples,
            Self::Mmap { .. } | Self::Brk { .. } | Self::Mremap { .. } => Stream::Memory,
            Self::Fault { .. } => Stream::Faults,
            Self::Released { .. } | Self::Moved { .. } => Stream::Releases,
            Self::NewThread { .. }
            | Self::NewProcess { .. }
            | Self::Exec
            | Self::Exit
            | Self::OomVictim => Stream::Tasks,
            Self::Allocation { .. } | Self::Free { .. } => Stream::Allocations,
            Self::Wait { .. } | Self::Blocked { .. } | Self::WaitEnd { .. } => Stream::Waits,
        }
    }
}

/// One record of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When.
    pub time: Nanos,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// The task's cgroup.
    pub cgroup: CgroupId,
    /// The task's name.
    pub comm: Comm,
    /// The CPU.
    pub cpu: u32,
    /// Bits of [`holmes_common::record::flag`].
    pub flags: u32,
    /// How the walk of the user stack ended.
    #[serde(default, skip)]
    pub walk: Walk,
    /// What the task was executing.
    pub stack: Arc<Stack>,
    /// What happened.
    pub what: What,
}
