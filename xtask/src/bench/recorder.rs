//! The recorder as users run it, with every rule off: it samples and keeps, and cuts an incident
//! only when asked.
//!
//! Must not: be pointed at what the benchmark did not start, but for budgets of a whole host; then
//! only totals are read from it.

use std::ffi::OsString;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::listener::{Listener, Stream};
use super::process::{CpuClock, Memory};
use super::scrape::{self, Metrics};
use super::session::Session;
use crate::cgroup::Cgroup;
use crate::command;

/// What it watches.
#[derive(Clone, Copy, Debug)]
pub enum Watched<'a> {
    /// These processes.
    Processes(&'a [u32]),
    /// This cgroup and those below it.
    Cgroup(&'a Cgroup),
    /// Everything.
    Host,
}

/// A running recorder, ended on drop.
#[derive(Debug)]
pub struct Recorder {
    log: Listener,
    address: SocketAddr,
}

impl Recorder {
    /// Starts it and waits until it records.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(
        session: &Session,
        watched: Watched<'_>,
        frequency: u32,
        more: &[OsString],
    ) -> Result<Self> {
        let mut command = command::of(session.recorder(), &["--listen", "127.0.0.1:0"]);
        for signal in ["cpu", "memory", "threads"] {
            command.arg("--rule").arg(format!("{signal}=off"));
        }
        command.arg("--frequency").arg(frequency.to_string());
        command.arg("--dump-dir").arg(session.file("incidents"));
        match watched {
            Watched::Processes(pids) => {
                for pid in pids {
                    command.arg("--pid").arg(pid.to_string());
                }
            }
            Watched::Cgroup(cgroup) => {
                command.arg("--cgroup").arg(cgroup.path());
            }
            Watched::Host => {
                command.arg("--all");
            }
        }
        command.args(more);
        let mut log = Listener::start(&mut command, Stream::Error)?;
        let line = log.hear("recording", session)?;
        let address =
            address(&line).with_context(|| format!("the recorder names no address: `{line}`"))?;
        Ok(Self { log, address })
    }

    /// Its metrics now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::parse(&scrape::request(self.address, "GET", "/metrics")?))
    }

    /// Whether this probe is on.
    ///
    /// # Errors
    /// When the recorder does not answer.
    pub fn has(&self, probe: &str) -> Result<bool> {
        Ok(self.metrics()?.by_label("holmes_probe_up").any(|(name, up)| name == probe && up > 0.0))
    }

    /// Cuts an incident of what it watches, and gives its folder once it is on disk.
    ///
    /// # Errors
    /// When it refuses, or no incident comes.
    pub fn incident(&mut self, session: &Session) -> Result<String> {
        const MARK: &str = "incident written: ";
        scrape::request(self.address, "POST", "/trigger")?;
        let line = self.log.hear(MARK, session)?;
        let (_, folder) = line.split_once(MARK).context("the line has changed")?;
        Ok(folder.trim().to_owned())
    }

    /// Its memory now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.log.pid())
    }

    /// Begins to measure its CPU time.
    ///
    /// # Errors
    /// When it has ended.
    pub fn clock(&self) -> Result<CpuClock> {
        CpuClock::start(self.log.pid())
    }
}

/// The address in a line like `recording; metrics at http://127.0.0.1:8731/metrics`.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("http://")?;
    after.split('/').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_log() {
        let found = |line| address(line).map(|address| address.port());
        assert_eq!(found(" INFO recording; metrics at http://127.0.0.1:4711/metrics"), Some(4711));
        assert_eq!(found(" INFO recording; metrics are off"), None);
    }
}
