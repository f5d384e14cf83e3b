//! Many processes that sleep and wake: together one steady load, however many they are.
//!
//! Must not: outlive the measurement.

use anyhow::{Context, Result};

use super::listener::{Listener, Stream};
use super::session::{Session, program};

/// What all of them burn in each second, in microseconds: less than one CPU.
const LOAD_US: u32 = 800_000;

/// The crowd, ended on drop.
#[derive(Debug)]
pub struct Crowd {
    _parent: Listener,
    pids: Vec<u32>,
}

impl Crowd {
    /// Starts so many.
    ///
    /// # Errors
    /// When they cannot be built or started.
    pub fn start(session: &Session, count: u32) -> Result<Self> {
        let nappers = session.c_program("nappers", &[])?;
        let each = (LOAD_US / count.max(1)).to_string();
        let mut command = program(&nappers, &[&count.to_string(), &each]);
        let mut parent = Listener::start(&mut command, Stream::Output)?;
        let mut pids = Vec::new();
        for _ in 0..count {
            let line = parent.hear("pid ", session)?;
            pids.push(line.trim_start_matches("pid ").parse().context("no pid")?);
        }
        parent.hear("ready", session)?;
        Ok(Self { _parent: parent, pids })
    }

    /// Each of them.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }
}
