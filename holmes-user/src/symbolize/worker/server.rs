//! The naming child: takes requests from its standard input, a socket, until there are no more.
//!
//! Must not: use a file or a right beyond those it is handed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::super::elf::{self, Deadlines, Files, Said};
use super::limits::{LimitError, confine};
use super::wire::{MAX_SPOTS, Reply, Request, receive_request, send_reply, to_wire};

/// Why the child ends early.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// It would have more rights than it should.
    #[error("the naming process cannot give up its rights")]
    Limits(#[from] LimitError),
    /// The recorder is gone, or this was not started by it.
    #[error("standard input is no recorder: this command is for the recorder's own use")]
    Socket(#[from] io::Error),
}

/// Serves the recorder until it closes the socket.
///
/// # Errors
/// Standard input is no socket, or limits cannot be set.
pub fn run() -> Result<(), WorkerError> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails where it is no socket.
    socket.peer_addr()?;
    close_others(&socket)?;
    let walled = confine()?;
    // What a parser's panic would print is counted by the recorder.
    std::panic::set_hook(Box::new(|_| {}));
    send_reply(&socket, Reply::Ready { walled })?;
    while let Some((request, files)) = receive_request(&socket)? {
        answer(&socket, request, files, walled)?;
        send_reply(&socket, Reply::Over)?;
    }
    Ok(())
}

/// Closes what the recorder's own parent may have left open in it. Ours close themselves.
fn close_others(socket: &UnixStream) -> io::Result<()> {
    let mut open: Vec<i32> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for descriptor in open.into_iter().filter(|&fd| fd > 2 && fd != socket.as_raw_fd()) {
        // SAFETY: no object of this process owns it: it has opened nothing but the socket, and the
        // folder that was just listed and is closed. Closing that again fails, which is fine.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

fn answer(
    socket: &UnixStream,
    request: Request,
    files: Vec<OwnedFd>,
    walled: bool,
) -> io::Result<()> {
    let now = Instant::now();
    let after = |milliseconds| now + Duration::from_millis(milliseconds);
    let deadlines = Deadlines { debug: after(request.debug_ms), all: after(request.all_ms) };
    let path = |file: &File| {
        PathBuf::from(match walled {
            true => format!("/{}", file.as_raw_fd()),
            false => format!("/proc/self/fd/{}", file.as_raw_fd()),
        })
    };
    let mut files = files.into_iter().map(File::from);
    let symbols = if request.symbols { files.next() } else { None };
    let debug = if request.debug { files.next() } else { None };
    let (symbols_path, debug_path) = (symbols.as_ref().map(path), debug.as_ref().map(path));
    let spots = request.spots.get(..MAX_SPOTS).unwrap_or(&request.spots);
    let files = Files { symbols: symbols_path.as_deref(), debug: debug_path.as_deref() };
    let mut result = Ok(());
    elf::name(files, spots, deadlines, &mut |said| {
        let reply = match said {
            Said::Answers(answers) => Reply::Answers(answers.into_iter().map(to_wire).collect()),
            Said::DebugOver(cause) => Reply::DebugOver(cause.map(|cause| cause as u8)),
        };
        result = send_reply(socket, reply);
        result.is_ok()
    });
    result
}
