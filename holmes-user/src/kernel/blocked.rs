//! Has the kernel tell of the threads that sleep.
//!
//! Must not: read what it tells (`collect` does).

use std::fs::File;
use std::thread;
use std::time::Duration;

use super::iterators;
use super::probes::Probes;

/// The program.
pub(super) const PROGRAM: &str = "visit_blocked";

/// A moment in which the calling thread leaves its CPU: when it got it back is how the scheduler's clock and
/// the others are compared, so that must be a moment ago.
const MOMENT: Duration = Duration::from_micros(50);

impl Probes {
    /// Whether the kernel can tell: not where it has refused that, nor when the probes are detached.
    pub fn can_tell_of_blocked(&self) -> bool {
        self.ebpf.program(PROGRAM).is_some_and(|program| program.fd().is_ok())
    }

    /// A file whose reader is told of each thread of the target that sleeps, in records of
    /// `holmes_common::record::BlockedThread`. To be read at once, by the calling thread.
    ///
    /// # Errors
    /// The kernel cannot: why, in one line, as the probe's status said when it was attached.
    pub fn blocked_threads(&mut self) -> Result<File, String> {
        let file = iterators::open(&mut self.ebpf, PROGRAM)?;
        thread::sleep(MOMENT);
        Ok(file)
    }
}
