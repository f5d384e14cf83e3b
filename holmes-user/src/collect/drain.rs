//! Empties the ring buffer, by the clock: the probes wake nobody.

use aya::maps::{MapData, RingBuf};

use super::decode::decode;
use super::observation::Observation;

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
}

impl Drainer {
    /// Reads from this ring buffer, alone.
    pub fn new(records: RingBuf<MapData>) -> Self {
        Self { records }
    }

    /// Hands every waiting observation to `sink`, in the order in which they were written.
    pub fn drain(&mut self, mut sink: impl FnMut(Observation)) -> Drained {
        let mut drained = Drained::default();
        for _ in 0..MAX_AT_ONCE {
            let Some(record) = self.records.next() else {
                return drained;
            };
            match decode(&record) {
                Ok(observation) => {
                    drained.records += 1;
                    sink(observation);
                }
                Err(_) => drained.malformed += 1,
            }
        }
        drained.more = true;
        drained
    }
}
