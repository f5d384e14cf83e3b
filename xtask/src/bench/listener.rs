//! A child whose lines are read as they come: a workload that says `ready`, the recorder's log.
//!
//! Must not: know what the lines mean.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::session::Session;
use crate::child::Ended;
use crate::command;

/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(50);

/// A child that says nothing for so long has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines shown of a child that did not do what it should.
const SHOWN_LINES: usize = 5;

/// The stream that is listened to; the other goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// A running child, ended on drop.
#[derive(Debug)]
pub struct Listener {
    child: Ended,
    lines: Receiver<String>,
    last: Vec<String>,
    name: String,
}

impl Listener {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, stream: Stream) -> Result<Self> {
        let name = command::shown(command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        match stream {
            Stream::Output => command.stdout(Stdio::piped()),
            Stream::Error => command.stderr(Stdio::piped()),
        };
        Self::listen(Ended::start(command)?, stream, name)
    }

    /// Starts it with its output going into a file: nothing is heard of it but what it says on
    /// standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_into(command: &mut Command, output: File) -> Result<Self> {
        let name = command::shown(command);
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        Self::listen(Ended::start(command)?, Stream::Error, name)
    }

    fn listen(mut child: Ended, stream: Stream, name: String) -> Result<Self> {
        let pipe: Option<Box<dyn Read + Send>> = match stream {
            Stream::Output => child.child().stdout.take().map(|pipe| Box::new(pipe) as _),
            Stream::Error => child.child().stderr.take().map(|pipe| Box::new(pipe) as _),
        };
        let pipe = pipe.context("the child has no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { break };
                // Ignored: nobody waits any more; the pipe is emptied all the same.
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, lines, last: Vec::new(), name })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits for a line that holds this text, and gives the line.
    ///
    /// # Errors
    /// When it ends before, takes too long, or the run was interrupted.
    pub fn hear(&mut self, text: &str, session: &Session) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            session.check()?;
            match self.lines.recv_timeout(POLL) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => {
                    self.last.push(line);
                    let over = self.last.len().saturating_sub(SHOWN_LINES);
                    self.last.drain(..over);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("cannot wait for a child")?;
                    let last = self.last.join("\n");
                    bail!("`{}` ended ({status}) before it said `{text}`:\n{last}", self.name);
                }
            }
            if Instant::now() > deadline {
                let last = self.last.join("\n");
                bail!("`{}` did not say `{text}`, but:\n{last}", self.name);
            }
        }
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.child().stdin.as_mut().context("the child has no input")?;
        writeln!(stdin, "{line}").with_context(|| format!("cannot tell `{}` {line}", self.name))
    }

    /// Asks it to end by this signal (`INT`, `TERM`), and waits until it has.
    pub fn end_by(&mut self, signal: &str) {
        self.child.end_by(signal);
    }

    /// That it has not ended.
    ///
    /// # Errors
    /// When it has; the message shows its last lines.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait().context("cannot wait for a child")? {
            None => Ok(()),
            Some(status) => {
                let said: Vec<String> = self.lines.iter().collect();
                let last = &said[said.len().saturating_sub(SHOWN_LINES)..];
                bail!("`{}` ended ({status}):\n{}", self.name, last.join("\n"));
            }
        }
    }
}
