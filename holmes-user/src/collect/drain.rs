//! Empties the ring buffer: by the clock, and when the probes ring because a process is new to them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aya::maps::{MapData, RingBuf};

use super::decode::{decode, decode_copy};
use super::observation::{Nanos, Observation, StackMemory};

/// Records taken in one go: what 200 000 a second leave in one interval, and no more, so that a
/// flood cannot keep the recorder from everything else. The rest waits for the next go.
const MAX_AT_ONCE: usize = 20_000;

/// What one go has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records decoded.
    pub records: u64,
    /// Records that no probe could have written: a broken object, counted and dropped.
    pub malformed: u64,
    /// More are waiting.
    pub more: bool,
}

/// The reading end of the ring buffer.
pub struct Drainer {
    records: RingBuf<MapData>,
    /// The last copy of a stack, with the time and CPU of the sample that it belongs to.
    copy: Option<(u64, u32, StackMemory)>,
}

impl Drainer {
    /// Reads from this ring buffer, alone.
    pub fn new(records: RingBuf<MapData>) -> Self {
        Self { records, copy: None }
    }

    /// A descriptor that becomes readable when the probes want to be heard at once.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.records.as_fd().try_clone_to_owned()
    }

    /// Hands every waiting observation to `sink`, in the order in which they were written.
    pub fn drain(&mut self, mut sink: impl FnMut(Observation)) -> Drained {
        let mut drained = Drained::default();
        for _ in 0..MAX_AT_ONCE {
            let Some(record) = self.records.next() else {
                return drained;
            };
            match decode_copy(&record) {
                Some(Ok(copy)) => {
                    self.copy = Some(copy);
                    continue;
                }
                Some(Err(_)) => {
                    drained.malformed += 1;
                    continue;
                }
                None => {}
            }
            match decode(&record) {
                Ok(mut observation) => {
                    drained.records += 1;
                    // Another CPU may have written in between; a copy without its sample is of no
                    // use.
                    if let Some((time, cpu, _)) = self.copy
                        && (Nanos(time), cpu) == (observation.time, observation.cpu)
                    {
                        observation.walk.copy =
                            self.copy.take().map(|(_, _, memory)| Arc::new(memory));
                    }
                    sink(observation);
                }
                Err(_) => drained.malformed += 1,
            }
        }
        drained.more = true;
        drained
    }
}
