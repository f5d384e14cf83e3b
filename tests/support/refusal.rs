//! A kernel that refuses a program of the recorder's once: the first large one that it is asked to load, as
//! a verifier does that does not find its way through it.
//!
//! The test answers the child's calls of `bpf(BPF_PROG_LOAD)` itself (seccomp_unotify(2)): that one with the
//! verifier's error, all others by having the kernel go on.
//!
//! Must not: change what is loaded, or any call of a process that did not ask for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};

/// The command of `bpf(2)`.
const BPF_PROG_LOAD: u32 = 5;
/// Where its attributes have how many instructions there are, and the program's name.
const COUNT_AT: usize = 4;
const NAME_AT: usize = 48;
const NAME_BYTES: usize = 16;

/// Programs of fewer instructions only ask what the kernel can do.
const LARGE: u32 = 200;

/// Times that the program is refused: whoever loads one asks once more for the verifier's words.
const TIMES: u32 = 2;

/// Where the system call's number and its first argument are (`struct seccomp_data`).
const NUMBER_AT: u32 = 0;
const ARGUMENT_AT: u32 = 16;

/// Which programs a child was refused, and which it loaded.
#[derive(Clone, Debug, Default)]
pub struct Refusal(Arc<Mutex<Loads>>);

/// Programs that are loaded when they are needed, how their names begin: those that go through tasks, and those
/// that stand in for programs at the ends of functions.
const LATER: [&str; 4] = ["visit_", "memory_call", "call_step", "call_finish"];

#[derive(Debug, Default)]
struct Loads {
    refused: Option<String>,
    /// By name, how often the kernel was asked.
    asked: BTreeMap<String, u32>,
}

impl Refusal {
    /// That a program was refused, and then all were loaded again that are loaded ahead.
    ///
    /// # Errors
    /// They were not.
    pub fn expect_all_again(&self) -> anyhow::Result<()> {
        let loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = loads.refused.as_ref().context("no program was refused")?;
        let again = |(name, times): (&String, &u32)| {
            LATER.iter().any(|later| name.starts_with(later))
                || *times > if name == refused { TIMES } else { 1 }
        };
        ensure!(loads.asked.len() > 1 && loads.asked.iter().all(again), "{loads:?}");
        Ok(())
    }

    /// Has this child's loads go through here.
    pub(crate) fn apply(&self, command: &mut Command) -> anyhow::Result<()> {
        let (ours, theirs) = UnixStream::pair().context("making a pair of sockets")?;
        // SAFETY: runs in the child after fork and calls system calls only.
        unsafe {
            command.pre_exec(move || enter(&theirs));
        }
        let loads = self.clone();
        // It ends with the child, or with the command where none is started.
        std::thread::spawn(move || match listener(ours) {
            Ok(Some(listener)) => loads.serve(&listener),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        });
        Ok(())
    }

    /// Answers until the child has ended.
    fn serve(&self, listener: &OwnedFd) -> io::Result<()> {
        loop {
            let mut poll =
                libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, which lives through the call.
            checked(unsafe { libc::poll(&raw mut poll, 1, -1) }.into())?;
            if poll.revents & libc::POLLIN == 0 {
                return Ok(());
            }
            // SAFETY: a struct of numbers, which the kernel wants zeroed.
            let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel fills the struct.
            let received = unsafe {
                libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call)
            };
            if checked(received.into()).is_err() {
                // Its thread has ended meanwhile.
                continue;
            }
            let error = if self.refuses(&call) { -libc::EACCES } else { 0 };
            let flags = if error == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
            let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
            // SAFETY: the kernel reads the struct. Where the thread has ended, nobody waits for it.
            unsafe {
                libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
            };
        }
    }

    /// Whether this load is refused.
    fn refuses(&self, call: &libc::seccomp_notif) -> bool {
        let mut attributes = [0; NAME_AT + NAME_BYTES];
        let [_, address, ..] = call.data.args;
        let read = File::open(format!("/proc/{}/mem", call.pid))
            .and_then(|memory| memory.read_exact_at(&mut attributes, address));
        let (head, name) = attributes.split_at(NAME_AT);
        let count = head.get(COUNT_AT..).and_then(|rest| rest.first_chunk::<4>());
        let count = count.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        if read.is_err() || count < LARGE {
            return false;
        }
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = loads.asked.entry(name.clone()).or_default();
        *times += 1;
        let times = *times;
        *loads.refused.get_or_insert_with(|| name.clone()) == name && times <= TIMES
    }
}

/// In the child: from now on somebody else answers its loads, once that one is there.
fn enter(socket: &UnixStream) -> io::Result<()> {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        op(load, NUMBER_AT, 0, 0),
        op(is, libc::SYS_bpf as u32, 0, 3),
        op(load, ARGUMENT_AT, 0, 0),
        op(is, BPF_PROG_LOAD, 0, 1),
        op(answer, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
        op(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the filter, which lives through the call.
    let listener = checked(unsafe {
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    let mut socket = socket;
    // The number of the descriptor, which is closed when the program is executed.
    socket.write_all(&(listener as i32).to_ne_bytes())?;
    socket.write_all(&std::process::id().to_ne_bytes())?;
    socket.read_exact(&mut [0])
}

/// In the test: takes the descriptor over; `None` where no child was started.
fn listener(mut socket: UnixStream) -> io::Result<Option<OwnedFd>> {
    let (mut number, mut pid) = ([0; 4], [0; 4]);
    if socket.read_exact(&mut number).and_then(|()| socket.read_exact(&mut pid)).is_err() {
        return Ok(None);
    }
    let (number, pid) = (i32::from_ne_bytes(number), u32::from_ne_bytes(pid));
    // SAFETY: no pointer.
    let child = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    let listener = unsafe { libc::syscall(libc::SYS_pidfd_getfd, child.as_raw_fd(), number, 0) };
    let listener = owned(listener)?;
    socket.write_all(&[1])?;
    Ok(Some(listener))
}

fn owned(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = checked(descriptor)?;
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
