//! The recorder and the service: started, listened to, and ended whatever happens.
//!
//! Must not: end a process that it did not start.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::child::Ended;
use crate::{command, workspace};

/// How often Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(100);

/// The running recorder.
#[derive(Debug)]
pub struct Recorder {
    child: Ended,
    lines: Receiver<String>,
}

impl Recorder {
    /// Starts it. Its log is shown as it comes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(arguments: &[OsString]) -> Result<Self> {
        let mut recorder = command::of(workspace::short(&workspace::recorder()), arguments);
        // A group of its own: Ctrl-C reaches us, and we end it in order.
        recorder.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        println!("$ {}", command::shown(&recorder));
        let mut child = recorder.spawn().context("cannot start the recorder")?;
        let log = child.stderr.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in log.into_iter().flat_map(|log| BufReader::new(log).lines()) {
                let Ok(line) = line else { break };
                println!("  | {line}");
                // Ignored: nobody waits any more, but the log is still shown.
                let _ = sender.send(line);
            }
        });
        Ok(Self { child: Ended::new(child), lines })
    }

    /// Waits for a line of its log that holds this text, and gives the line.
    ///
    /// # Errors
    /// When it ends before, takes too long, or Ctrl-C comes.
    pub fn wait_for(
        &mut self,
        text: &str,
        patience: Duration,
        interrupted: &AtomicBool,
    ) -> Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("cannot wait for the recorder")?;
                    bail!("the recorder ended ({status}); its log above says why");
                }
            }
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if Instant::now() > deadline {
                bail!("the recorder did not say `{text}` within {} s", patience.as_secs());
            }
        }
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.child.end();
        // Its last lines are on their way still: what it counted belongs to the demo.
        while self.lines.recv_timeout(POLL).is_ok() {}
    }
}

/// The running service.
#[derive(Debug)]
pub struct Service {
    _child: Ended,
}

impl Service {
    /// Starts it inside the cgroup.
    ///
    /// # Errors
    /// When the shell that moves it there cannot be started.
    pub fn start(
        program: &Path,
        cgroup: &Cgroup,
        steady: Duration,
        spike: Duration,
    ) -> Result<Self> {
        // The shell joins the cgroup, then becomes the service: no moment of it runs outside.
        let script = "program=$1 steady=$2 spike=$3; shift 3; \
                      for join; do echo $$ >\"$join\" || exit 1; done; \
                      exec \"$program\" \"$steady\" \"$spike\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(program);
        shell.args([steady, spike].map(|time| time.as_secs().to_string()));
        shell.args(cgroup.joins()).stdin(Stdio::null()).process_group(0);
        let child = shell.spawn().context("cannot start the service")?;
        Ok(Self { _child: Ended::new(child) })
    }
}
