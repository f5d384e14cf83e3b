//! The recorder's side of the naming child: starts it, asks it, and ends it when its time is over.
//!
//! Must not: believe it, or wait for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::collector::Collector;
use super::super::elf::{Deadlines, Spot};
use super::super::stats::{DebugSkipped, Unnamed};
use super::wire::{MAX_SPOTS, Reply, Request, from_wire, receive_reply, send_request};

/// What starts it, hidden from the help.
const COMMAND: &str = "symbolize-worker";
/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_secs(1);
/// How much later than asked its last answers may come.
const GRACE: Duration = Duration::from_millis(150);
/// Children that were ended and are not gone yet: one that reads from a dead network disk stays
/// until the disk is back.
const MAX_LINGERING: usize = 4;

/// The files of one request.
#[derive(Clone, Copy, Debug)]
pub(in crate::symbolize) struct Handed<'a> {
    /// What has the symbol tables.
    pub(in crate::symbolize) symbols: Option<&'a File>,
    /// What has the debug information.
    pub(in crate::symbolize) debug: Option<&'a File>,
}

/// The naming child: one at a time, started when needed.
#[derive(Debug)]
pub(in crate::symbolize) struct Worker {
    program: PathBuf,
    running: Option<Running>,
    lingering: Vec<Child>,
    /// Whether it has been said that none can be started.
    warned: bool,
}

#[derive(Debug)]
struct Running {
    child: Child,
    socket: UnixStream,
    walled: bool,
}

/// How a request ended.
enum Ended {
    /// As it should; perhaps without debug information.
    Well(Option<DebugSkipped>),
    /// The child broke down over it, or had to be ended, while it read debug information.
    InDebug(DebugSkipped),
    /// As above, while it read symbol tables.
    InSymbols(Unnamed),
}

impl Worker {
    /// Children of this program.
    pub(in crate::symbolize) fn new(program: PathBuf) -> Self {
        Self { program, running: None, lingering: Vec::new(), warned: false }
    }

    /// Starts a child if none runs. Whether it reaches only the files it is handed; `None` if
    /// there is no child.
    pub(in crate::symbolize) fn walled(&mut self) -> Option<bool> {
        self.lingering.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        if self.running.is_none() && self.lingering.len() < MAX_LINGERING {
            match start(&self.program) {
                Ok(running) => self.running = Some(running),
                Err(error) if !std::mem::replace(&mut self.warned, true) => tracing::warn!(
                    "debug information is read in the recorder itself: the process for it cannot \
                     be started: {error}"
                ),
                Err(_) => {}
            }
        }
        self.running.as_ref().map(|running| running.walled)
    }

    /// Ends the child. The next request starts another: nothing of one incident's files is left.
    pub(in crate::symbolize) fn end(&mut self) {
        if let Some(Running { mut child, socket, .. }) = self.running.take() {
            drop(socket);
            // Fails if it is gone already.
            let _ = child.kill();
            for _ in 0..20 {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            self.lingering.push(child);
        }
    }

    /// Names places; why debug information was not used, if it was handed over. If the child breaks
    /// down, what it said before counts, and another one is asked for the rest, without debug
    /// information.
    pub(in crate::symbolize) fn name(
        &mut self,
        handed: Handed<'_>,
        spots: &[Spot],
        deadlines: Deadlines,
        answers: &mut Collector,
    ) -> Option<DebugSkipped> {
        let mut skipped = None;
        for chunk in spots.chunks(MAX_SPOTS) {
            let goal = answers.len() + chunk.len();
            let usable = skipped.is_none();
            let debug = handed.debug.filter(|_| usable);
            let mut ended = self.ask(Handed { debug, ..handed }, chunk, deadlines, answers);
            if let Ended::InDebug(cause) = ended {
                skipped = Some(cause);
                let done = chunk.len() - (goal - answers.len()).min(chunk.len());
                let rest = chunk.get(done..).unwrap_or_default();
                ended = self.ask(Handed { debug: None, ..handed }, rest, deadlines, answers);
            }
            match ended {
                Ended::Well(cause) => skipped = skipped.or(cause),
                Ended::InSymbols(cause) => answers.fill(goal, cause),
                // Nothing was handed over that could have been read.
                Ended::InDebug(_) => answers.fill(goal, Unnamed::Crashed),
            }
        }
        skipped
    }

    fn ask(
        &mut self,
        handed: Handed<'_>,
        spots: &[Spot],
        deadlines: Deadlines,
        answers: &mut Collector,
    ) -> Ended {
        let mut in_debug = handed.debug.is_some();
        let now = Instant::now();
        if spots.is_empty() {
            return Ended::Well(None);
        }
        if self.walled().is_none() {
            return Ended::InSymbols(Unnamed::Crashed);
        }
        let Some(running) = &self.running else { return Ended::InSymbols(Unnamed::Crashed) };
        let milliseconds = |until: Instant| {
            u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
        };
        let request = Request {
            symbols: handed.symbols.is_some(),
            debug: in_debug,
            debug_ms: milliseconds(deadlines.debug),
            all_ms: milliseconds(deadlines.all),
            spots: spots.to_vec(),
        };
        let files: Vec<BorrowedFd<'_>> =
            handed.symbols.into_iter().chain(handed.debug).map(AsFd::as_fd).collect();
        let mut left = spots.len();
        let mut skipped = None;
        let mut result = running
            .socket
            .set_write_timeout(Some(GRACE.max(deadlines.all.saturating_duration_since(now))))
            .and_then(|()| send_request(&running.socket, &request, &files));
        while result.is_ok() {
            let until = if in_debug { deadlines.debug } else { deadlines.all } + GRACE;
            result = match receive_reply(&running.socket, until) {
                Ok(Reply::Over) if left == 0 && !in_debug => return Ended::Well(skipped),
                Ok(Reply::Answers(list)) if (1..=left).contains(&list.len()) => {
                    left -= list.len();
                    list.into_iter().try_for_each(|answer| match from_wire(answer) {
                        Some(answer) => {
                            answers.add(answer);
                            Ok(())
                        }
                        None => {
                            answers.add(Err(Unnamed::Crashed));
                            Err(io::ErrorKind::InvalidData.into())
                        }
                    })
                }
                Ok(Reply::DebugOver(cause)) if in_debug => {
                    in_debug = false;
                    skipped = cause.map(|cause| {
                        let known = DebugSkipped::ALL.get(usize::from(cause));
                        known.copied().unwrap_or(DebugSkipped::Crashed)
                    });
                    Ok(())
                }
                Ok(_) => Err(io::ErrorKind::InvalidData.into()),
                Err(error) => Err(error),
            };
        }
        let late = result.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        self.end();
        match (in_debug, late) {
            (true, true) => Ended::InDebug(DebugSkipped::OutOfTime),
            (true, false) => Ended::InDebug(DebugSkipped::Crashed),
            (false, true) => Ended::InSymbols(Unnamed::OutOfTime),
            (false, false) => Ended::InSymbols(Unnamed::Crashed),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(program: &PathBuf) -> io::Result<Running> {
    let (socket, theirs) = UnixStream::pair()?;
    let child = Command::new(program)
        .arg0("holmes-ebpf")
        .arg(COMMAND)
        // What is in the environment is nobody's business there.
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut running = Running { child, socket, walled: false };
    match receive_reply(&running.socket, Instant::now() + START) {
        Ok(Reply::Ready { walled }) => {
            running.walled = walled;
            Ok(running)
        }
        other => {
            // It has read nothing yet, so that nothing holds it.
            let _ = running.child.kill();
            let _ = running.child.wait();
            Err(other.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into()))
        }
    }
}
