//! What a thread waits for, as far as the kernel's entry tells: the state it waits in, and the system call
//! it is in.
//!
//! Must not: look at stacks. They tell more, to whoever reads them.

use serde::{Deserialize, Serialize};

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// A CPU: it could run.
    RunQueue,
    /// A lock, a condition, or whatever else a futex is used for.
    Futex,
    /// Time to pass.
    Sleep,
    /// One of several files, sockets or pipes to become ready.
    Poll,
    /// A file, a socket or a pipe.
    Io,
    /// A page of memory: a fault that goes to the disk, or that waits for the address space's lock.
    PageFault,
    /// Another process to end or change.
    Child,
    /// A signal.
    Signal,
    /// To be continued by another process (SIGSTOP, a debugger).
    Stopped,
    /// Something else: its kernel stack tells.
    Other,
}

/// Bits of a task's state, `include/linux/sched.h`: `__TASK_STOPPED` and `__TASK_TRACED`.
const STOPPED: u32 = 0x4 | 0x8;

/// `futex_waitv`, since 5.16, and `futex_wait`, since 6.7: the same numbers on every architecture.
const NEWER_FUTEX: [i64; 2] = [449, 455];

impl WaitCause {
    /// The cause of a wait in this state (0 if the thread could run) and in the system call of this number;
    /// `None` for none.
    pub(super) fn of(state: u32, call: Option<i64>) -> Self {
        if state == 0 {
            return Self::RunQueue;
        }
        if state & STOPPED != 0 {
            return Self::Stopped;
        }
        let Some(call) = call else { return Self::PageFault };
        let tables = [
            (Self::Futex, FUTEX),
            (Self::Sleep, SLEEP),
            (Self::Poll, POLL),
            (Self::Io, IO),
            (Self::Child, CHILD),
            (Self::Signal, SIGNAL),
        ];
        let found = tables.into_iter().find(|(_, calls)| calls.contains(&call));
        match found {
            Some((cause, _)) => cause,
            None if NEWER_FUTEX.contains(&call) => Self::Futex,
            None if cfg!(target_arch = "x86_64") => Self::of_older(call),
            None => Self::Other,
        }
    }

    /// Calls that only x86-64 has still.
    fn of_older(call: i64) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if [libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait].contains(&call) {
                return Self::Poll;
            }
            if [libc::SYS_open, libc::SYS_unlink, libc::SYS_rename].contains(&call) {
                return Self::Io;
            }
            if call == libc::SYS_pause {
                return Self::Signal;
            }
        }
        // Elsewhere there is nothing to look at.
        let _ = call;
        Self::Other
    }

    /// The value of the label `wait`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RunQueue => "run_queue",
            Self::Futex => "futex",
            Self::Sleep => "sleep",
            Self::Poll => "poll",
            Self::Io => "io",
            Self::PageFault => "page_fault",
            Self::Child => "child",
            Self::Signal => "signal",
            Self::Stopped => "stopped",
            Self::Other => "other",
        }
    }
}

const FUTEX: &[i64] = &[libc::SYS_futex];

const SLEEP: &[i64] = &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep];

const POLL: &[i64] =
    &[libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];

const IO: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_msync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_copy_file_range,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_io_getevents,
    libc::SYS_io_uring_enter,
    libc::SYS_getdents64,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_flock,
];

const CHILD: &[i64] = &[libc::SYS_wait4, libc::SYS_waitid];

const SIGNAL: &[i64] = &[libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait, libc::SYS_signalfd4];

#[cfg(test)]
mod tests {
    use super::*;

    /// `TASK_INTERRUPTIBLE`, `TASK_UNINTERRUPTIBLE`.
    const INTERRUPTIBLE: u32 = 1;
    const UNINTERRUPTIBLE: u32 = 2;

    #[test]
    fn the_state_comes_before_the_call() {
        let of = |state, call| WaitCause::of(state, call);
        assert_eq!(of(0, Some(libc::SYS_futex)), WaitCause::RunQueue, "preempted on its way");
        assert_eq!(of(4, Some(libc::SYS_futex)), WaitCause::Stopped);
        assert_eq!(of(UNINTERRUPTIBLE, None), WaitCause::PageFault);
        assert_eq!(of(INTERRUPTIBLE, Some(libc::SYS_futex)), WaitCause::Futex);
        assert_eq!(of(INTERRUPTIBLE, Some(449)), WaitCause::Futex);
        assert_eq!(of(INTERRUPTIBLE, Some(libc::SYS_clock_nanosleep)), WaitCause::Sleep);
        assert_eq!(of(UNINTERRUPTIBLE, Some(libc::SYS_fsync)), WaitCause::Io);
        assert_eq!(of(INTERRUPTIBLE, Some(libc::SYS_epoll_pwait)), WaitCause::Poll);
        assert_eq!(of(INTERRUPTIBLE, Some(libc::SYS_wait4)), WaitCause::Child);
        assert_eq!(of(INTERRUPTIBLE, Some(i64::MAX)), WaitCause::Other);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_that_only_this_processor_has() {
        assert_eq!(WaitCause::of(INTERRUPTIBLE, Some(libc::SYS_poll)), WaitCause::Poll);
        assert_eq!(WaitCause::of(INTERRUPTIBLE, Some(libc::SYS_pause)), WaitCause::Signal);
    }
}
