//! What goes between the recorder and its naming child: frames of JSON over a socket, each behind
//! its length (4 bytes, little endian). A request's length carries the descriptors of the files.
//!
//! Must not: believe a length or a count from the other side.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::elf::{Answer, MAX_LINES, Spot};
use super::super::stats::{NamedBy, Unnamed};
use super::super::table::{Line, Named};
use crate::symbolize::demangle::MAX_NAME_BYTES;

/// Places in one request: two numbers of at most 20 digits each make 11 MB of them.
pub(super) const MAX_SPOTS: usize = 1 << 18;
/// Bytes of a request: `MAX_SPOTS`, with room.
const MAX_REQUEST_BYTES: usize = 16 << 20;
/// Bytes of a reply: one answer of the most and longest lines, each byte written as `\u0000`.
const MAX_REPLY_BYTES: usize = 4 << 20;
/// Files of a request: what has the symbols, what has the debug information.
pub(super) const MAX_FILES: usize = 2;

/// Names these places.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Whether the first descriptor is a file with symbol tables.
    pub(super) symbols: bool,
    /// Whether the next one is a file with debug information.
    pub(super) debug: bool,
    /// Milliseconds from now until debug information is left out.
    pub(super) debug_ms: u64,
    /// Milliseconds from now until all is over.
    pub(super) all_ms: u64,
    /// The places.
    pub(super) spots: Vec<Spot>,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It has given up its rights.
    Ready {
        /// Whether it reaches no file but those it is handed.
        walled: bool,
    },
    /// For the next places.
    Answers(Vec<WireAnswer>),
    /// [`super::super::elf::Said::DebugOver`], the cause by its position.
    DebugOver(Option<u8>),
    /// The request is done.
    Over,
}

/// Whether debug information knew it, and the lines; or the position of [`Unnamed`].
pub(super) type WireAnswer = Result<(bool, Vec<Line>), u8>;

/// An answer as it is sent.
pub(super) fn to_wire(answer: Answer) -> WireAnswer {
    match answer {
        Ok((by, named)) => Ok((by == NamedBy::Dwarf, named.lines.clone())),
        Err(cause) => Err(cause as u8),
    }
}

/// An answer from the other side; `None` where it breaks a bound.
pub(super) fn from_wire(answer: WireAnswer) -> Option<Answer> {
    match answer {
        Ok((dwarf, lines)) => {
            let fits = |line: &Line| {
                line.function.len() <= MAX_NAME_BYTES && line.file.len() <= MAX_NAME_BYTES
            };
            let sound = (1..=MAX_LINES).contains(&lines.len()) && lines.iter().all(fits);
            let by = if dwarf { NamedBy::Dwarf } else { NamedBy::Elf };
            sound.then(|| Ok((by, Named { lines, module: String::new() }.into())))
        }
        Err(cause) => Unnamed::ALL.get(usize::from(cause)).map(|&cause| Err(cause)),
    }
}

/// The recorder's side: sends a request with its files.
pub(super) fn send_request(
    socket: &UnixStream,
    request: &Request,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(request)?;
    let header = (body.len() as u32).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if files.len() > MAX_FILES || !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(&header)], &mut control, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    socket.write_all(header.get(sent..).unwrap_or_default())?;
    socket.write_all(&body)
}

/// The child's side: the next request with its files; `None` when there are no more.
pub(super) fn receive_request(socket: &UnixStream) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut part = [IoSliceMut::new(&mut header)];
    let received = recvmsg(socket.as_fd(), &mut part, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    if received == 0 {
        return Ok(None);
    }
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    let mut socket = socket;
    socket.read_exact(header.get_mut(received..).unwrap_or_default())?;
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_REQUEST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, files)))
}

/// The child's side: sends a reply, in pieces if it is too long for one.
pub(super) fn send_reply(socket: &UnixStream, reply: Reply) -> io::Result<()> {
    let body = serde_json::to_vec(&reply)?;
    if body.len() > MAX_REPLY_BYTES {
        let Reply::Answers(mut answers) = reply else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if answers.len() < 2 {
            let unsayable = answers.iter().map(|_| Err(Unnamed::Broken as u8)).collect();
            return send_reply(socket, Reply::Answers(unsayable));
        }
        let behind = answers.split_off(answers.len() / 2);
        send_reply(socket, Reply::Answers(answers))?;
        return send_reply(socket, Reply::Answers(behind));
    }
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(body);
    let mut socket = socket;
    socket.write_all(&frame)
}

/// The recorder's side: the next reply, if it comes whole until `deadline`.
pub(super) fn receive_reply(socket: &UnixStream, deadline: Instant) -> io::Result<Reply> {
    let mut header = [0; 4];
    read_until(socket, &mut header, deadline)?;
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_REPLY_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    read_until(socket, &mut body, deadline)?;
    parse(&body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(body)?)
}

/// Fills the buffer; the time is looked at for every piece, so one byte at a time gains nothing.
fn read_until(mut socket: &UnixStream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn line(function: &str) -> Line {
        Line { function: function.into(), file: "a.c".into(), line: 3 }
    }

    #[test]
    fn a_request_comes_with_its_files() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let request = Request {
            symbols: true,
            debug: false,
            debug_ms: 1,
            all_ms: 2,
            spots: vec![(1, u64::MAX), (3, 4)],
        };
        send_request(&here, &request, &[file.as_fd()]).unwrap();
        drop(here);
        let (received, files) = receive_request(&there).unwrap().unwrap();
        assert_eq!((received.spots, received.all_ms), (request.spots, 2));
        let mut text = String::new();
        std::fs::File::from(files.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(receive_request(&there).unwrap().is_none());
    }

    #[test]
    fn replies_too_long_for_one_frame_come_in_pieces() {
        let (here, there) = UnixStream::pair().unwrap();
        let name = "\u{1}".repeat(MAX_NAME_BYTES);
        let lines: Vec<Line> = (0..MAX_LINES).map(|_| line(&name)).collect();
        let answers: Vec<WireAnswer> = (0..5).map(|_| Ok((true, lines.clone()))).collect();
        let sender = std::thread::spawn(move || send_reply(&here, Reply::Answers(answers)));
        let mut count = 0;
        while count < 5 {
            let Reply::Answers(answers) = receive_reply(&there, soon()).unwrap() else { panic!() };
            count += answers.len();
            assert!(answers.into_iter().all(|answer| matches!(from_wire(answer), Some(Ok(_)))));
        }
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn answers_beyond_the_bounds_are_refused() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert!(from_wire(Ok((true, vec![line("f")]))).is_some());
        for refused in [
            Ok((true, vec![])),
            Ok((true, vec![line(&long)])),
            Ok((true, vec![line("f"); MAX_LINES + 1])),
            Err(200),
        ] {
            assert!(from_wire(refused).is_none());
        }
    }

    #[test]
    fn a_child_that_says_nothing_whole_is_not_waited_for() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[9]).unwrap();
        let late = receive_reply(&there, Instant::now() + Duration::from_millis(20));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        here.write_all(&u32::MAX.to_le_bytes()).unwrap();
        let huge = receive_reply(&there, soon());
        assert_eq!(huge.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(here);
        assert!(receive_reply(&there, soon()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(&bytes).unwrap();
            drop(here);
            // Either answer is right; not panicking or waiting is the point.
            let _ = receive_reply(&there, soon());
        }
    }
}
