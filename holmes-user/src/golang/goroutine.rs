//! What a snapshot says: goroutines, and their stacks, each kept once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::build_info::GoVersion;
use super::labels::LabelSet;
use super::wait_reason;
use crate::collect::Nanos;

/// What a goroutine does (`runtime2.go`; the bit that says that its stack is being scanned is left out).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Just made.
    Idle,
    /// Waits for a thread.
    Runnable,
    /// Runs.
    Running,
    /// In a system call, or in C.
    Syscall,
    /// Blocked, by the reason of this number.
    Waiting(u8),
    /// Its stack is being moved.
    CopyStack,
    /// Stopped itself so that it can be looked at.
    Preempted,
    /// Blocked for ever, by this reason: the collector found out.
    Leaked(u8),
}

impl State {
    /// From the runtime's numbers; `None` for those that are dead, and for what is no state.
    pub(super) const fn of(status: u32, reason: u8) -> Option<Self> {
        Some(match status {
            0 => Self::Idle,
            1 => Self::Runnable,
            2 => Self::Running,
            3 => Self::Syscall,
            4 => Self::Waiting(reason),
            8 => Self::CopyStack,
            9 => Self::Preempted,
            10 => Self::Leaked(reason),
            _ => return None,
        })
    }

    /// In the words of Go's own tracebacks.
    pub fn text(self, version: &GoVersion) -> &str {
        match self {
            Self::Idle => "idle",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting(reason) => wait_reason::text(version, reason).unwrap_or("waiting"),
            Self::CopyStack => "copystack",
            Self::Preempted => "preempted",
            Self::Leaked(reason) => wait_reason::text(version, reason).unwrap_or("leaked"),
        }
    }

    /// One word for it: what it has in common with others.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting(_) => "waiting",
            Self::CopyStack => "copystack",
            Self::Preempted => "preempted",
            Self::Leaked(_) => "leaked",
        }
    }
}

/// How a stack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StackEnd {
    /// At the outermost function.
    Whole,
    /// It has more frames than are read.
    Cut,
    /// Where nothing says how to go on.
    Broken,
    /// There is none: while a goroutine runs, what its stack is only its thread knows. Its one address is
    /// where it began.
    Unknown,
}

/// A stack that goroutines have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Return addresses in the process, innermost first: each is behind the call.
    pub addresses: Box<[u64]>,
    /// How it ends.
    pub end: StackEnd,
}

/// A goroutine.
#[derive(Clone, Debug)]
pub struct Goroutine {
    /// The runtime's number of it.
    pub id: u64,
    /// What it does.
    pub state: State,
    /// Since when it waits, if the collector has noted it.
    pub waits_since: Option<Nanos>,
    /// Whether it has a thread to itself.
    pub is_locked: bool,
    /// Behind the `go` statement that made it; 0 where unknown.
    pub creator: u64,
    /// The goroutine that made it, since Go 1.21; 0 where unknown.
    pub parent: u64,
    /// Where it is.
    pub stack: Arc<Stack>,
    /// The labels that the program has given it, if any.
    pub labels: Option<Arc<LabelSet>>,
    /// The address of the semaphore of the lock that it waits for, which is 4 bytes into a `sync.Mutex`;
    /// 0 where unknown, and where it waits for something else. Who holds a lock Go does not note.
    pub lock: u64,
    /// What would have changed if it had run.
    pub(super) mark: Mark,
}

/// What changes when a goroutine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its address: it is used again for another goroutine.
    pub(super) address: u64,
    /// How often it has stopped running, modulo 256.
    pub(super) stops: u8,
    /// Its stack pointer and program counter.
    pub(super) at: (u64, u64),
}

/// All goroutines of a process at about one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The process.
    pub pid: u32,
    /// The version of Go.
    pub version: GoVersion,
    /// When it began.
    pub taken: Nanos,
    /// How long it took.
    pub took: Duration,
    /// Whether its own tracebacks have labels.
    pub shows_labels: bool,
    /// In the runtime's order; its own goroutines are left out, as in Go's profiles.
    pub goroutines: Vec<Goroutine>,
    /// The runtime's own that were left out.
    pub system: usize,
    /// Those that could not be read: they went on too fast, or their memory makes no sense.
    pub unread: usize,
    /// Those whose stack was left out, because there were too many different ones.
    pub without_stack: usize,
    /// Those whose labels were left out, because they made no sense or there were too many.
    pub without_labels: usize,
    /// Those that wait for a lock of which the address is not known: they went on, the program's table of
    /// locks makes no sense, or there were too many.
    pub without_lock: usize,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.goroutines.len();
        write!(out, "{count} goroutines of process {} ({})", self.pid, self.version)?;
        if self.unread > 0 {
            write!(out, "; {} could not be read", self.unread)?;
        }
        if self.without_stack > 0 {
            write!(out, "; {} are without a stack: there were too many", self.without_stack)?;
        }
        if self.without_labels > 0 {
            write!(out, "; the labels of {} could not be read", self.without_labels)?;
        }
        if self.without_lock > 0 {
            write!(out, "; of {} it is not known which lock they wait for", self.without_lock)?;
        }
        Ok(())
    }
}
