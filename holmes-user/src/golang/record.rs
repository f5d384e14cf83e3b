//! The records of goroutines in the runtime's memory.
//!
//! Must not: follow a pointer.

use super::build_info::GoVersion;
use super::error::GoError;
use super::goroutine::{Mark, State};
use super::layout::{Layout, SCHED_PC, SCHED_SP};
use super::memory::{END, Memory, Piece};
use super::target::Target;
use super::wait_reason;
use crate::binary::{u32_at, u64_at};

/// The bit that says that the collector looks at the stack just now.
const SCANNED: u32 = 0x1000;
/// The states of those that are none any more: dead, and dead but kept for a thread of C's.
const DEAD: [u32; 2] = [6, 11];
/// The largest stack of a goroutine: Go's limit is 1 GB, and the one above that which no setting
/// exceeds twice as much.
const MAX_STACK_BYTES: u64 = 4 << 30;

/// Bytes between two records that are read with them, so that they are one piece: the runtime lays
/// goroutines out side by side, and what costs time is each piece and each page.
const MAX_GAP: u64 = 512;
/// Bytes of such a piece.
const MAX_PIECE: u64 = 64 << 10;

/// Reads records, in the order of their addresses' array; `None` where there is no memory.
pub(super) fn read(
    memory: &impl Memory,
    target: &Target,
    addresses: &[u64],
) -> Result<Vec<Option<Record>>, GoError> {
    let len = target.layout.bytes();
    let mut sorted: Vec<(u64, usize)> =
        addresses.iter().enumerate().map(|(index, &address)| (address, index)).collect();
    sorted.sort_unstable();
    let mut pieces: Vec<Piece> = Vec::new();
    // For each record, in that order: its piece, and where it is in it.
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(sorted.len());
    for &(address, _) in &sorted {
        let end = address.saturating_add(len as u64);
        match pieces.last_mut() {
            Some(last)
                if address <= last.address + last.len as u64 + MAX_GAP
                    && end - last.address <= MAX_PIECE =>
            {
                last.len = last.len.max((end - last.address) as usize);
            }
            _ => pieces.push(Piece { address, len }),
        }
        let last = pieces.last().map_or(0, |last| last.address);
        places.push((pieces.len() - 1, (address - last) as usize));
    }
    let of = |error| GoError::of(target.pid, error);
    let mut bytes = Vec::new();
    let are_there = memory.read(&pieces, &mut bytes).map_err(of)?;
    let decode = |bytes: &[u8]| Record::decode(bytes, &target.layout, &target.version);
    let offsets: Vec<usize> = pieces
        .iter()
        .scan(0, |offset, piece| Some(std::mem::replace(offset, *offset + piece.len)))
        .collect();
    let mut records = vec![None; addresses.len()];
    let mut alone = Vec::new();
    for (&(address, index), &(piece, into)) in sorted.iter().zip(&places) {
        let from = offsets.get(piece).map_or(usize::MAX, |offset| offset.saturating_add(into));
        let part = bytes.get(from..).and_then(|rest| rest.get(..len));
        let Some(record) = records.get_mut(index) else { continue };
        match part {
            Some(part) if are_there.get(piece) == Some(&true) => *record = Some(decode(part)),
            // The gap may be what is missing, or another one's record.
            _ => alone.push((Piece { address, len }, index)),
        }
    }
    if !alone.is_empty() {
        let pieces: Vec<Piece> = alone.iter().map(|(piece, _)| *piece).collect();
        let are_there = memory.read(&pieces, &mut bytes).map_err(of)?;
        for ((part, (_, index)), is_there) in bytes.chunks_exact(len).zip(alone).zip(are_there) {
            if let Some(record) = records.get_mut(index).filter(|_| is_there) {
                *record = Some(decode(part));
            }
        }
    }
    Ok(records)
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A goroutine that has ended, and may be used again.
    Dead,
    /// A goroutine.
    Alive(Alive),
    /// What no goroutine looks like.
    Nonsense,
}

/// What is taken from a goroutine's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alive {
    pub(super) id: u64,
    pub(super) state: State,
    /// The bounds of its stack.
    pub(super) stack: (u64, u64),
    /// Stack pointer and program counter, where the record has the true ones.
    pub(super) at: Option<(u64, u64)>,
    pub(super) waits_since: u64,
    pub(super) is_locked: bool,
    pub(super) creator: u64,
    pub(super) parent: u64,
    pub(super) start: u64,
    /// Where its labels are; 0 if it has none.
    pub(super) labels: u64,
    stops: u8,
}

impl Record {
    /// Decodes a record.
    pub(super) fn decode(bytes: &[u8], layout: &Layout, version: &GoVersion) -> Self {
        let word = |at: usize| u64_at(bytes, at);
        let status = u32_at(bytes, layout.status) & !SCANNED;
        if DEAD.contains(&status) {
            return Self::Dead;
        }
        let reason = bytes.get(layout.wait_reason).copied().unwrap_or(u8::MAX);
        let Some(state) = State::of(status, reason) else { return Self::Nonsense };
        let (low, high) = (word(0), word(8));
        let is_stack = low < high && high < END && high - low <= MAX_STACK_BYTES;
        let id = word(layout.goid);
        // One that is being made has no stack or number yet.
        if state == State::Idle || id == 0 {
            return Self::Dead;
        }
        if !is_stack
            || (matches!(state, State::Waiting(_)) && !wait_reason::is_known(version, reason))
        {
            return Self::Nonsense;
        }
        let at = match state {
            State::Running | State::CopyStack | State::Idle => None,
            State::Syscall => Some((word(layout.syscall_sp), word(layout.syscall_sp + 8))),
            _ => Some((word(SCHED_SP), word(SCHED_PC))),
        };
        Self::Alive(Alive {
            id,
            state,
            stack: (low, high),
            at: at.filter(|&(sp, _)| low < sp && sp < high && sp % 8 == 0),
            waits_since: word(layout.wait_since),
            is_locked: word(layout.locked_to) != 0,
            creator: word(layout.go_statement),
            parent: layout.parent.map_or(0, word),
            start: word(layout.start),
            labels: word(layout.labels),
            stops: bytes.get(layout.stops).copied().unwrap_or_default(),
        })
    }
}

impl Alive {
    /// Whether the stack that was read in between is of this moment: it did not run, and its stack was
    /// not moved.
    pub(super) fn is_same(&self, later: &Self) -> bool {
        let key = |it: &Self| (it.id, it.state, it.stack, it.at, it.stops, it.start);
        key(self) == key(later)
    }

    pub(super) fn mark(&self, address: u64) -> Mark {
        Mark { address, stops: self.stops, at: self.at.unwrap_or_default() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record of Go 1.26.
    pub(in super::super) fn bytes(status: u32, id: u64, sp: u64, pc: u64) -> Vec<u8> {
        let layout = Layout::of(26).unwrap();
        let mut bytes = vec![0; layout.bytes()];
        let mut put = |at: usize, value: u64| {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(0, sp & !0xfff);
        put(8, (sp & !0xfff).wrapping_add(0x1000));
        put(SCHED_SP, sp);
        put(SCHED_PC, pc);
        put(layout.syscall_sp, sp.wrapping_add(8));
        put(layout.syscall_sp + 8, pc.wrapping_add(1));
        put(layout.status, status.into());
        put(layout.goid, id);
        put(layout.wait_reason, 19);
        bytes
    }

    fn decode(bytes: &[u8]) -> Record {
        Record::decode(bytes, &Layout::of(26).unwrap(), &GoVersion::parse("go1.26").unwrap())
    }

    #[test]
    fn states_and_where_their_stack_is() {
        let at = |status| match decode(&bytes(status, 7, 0xc000_0100, 0x40_0000)) {
            Record::Alive(alive) => (alive.state, alive.at),
            other => panic!("{other:?}"),
        };
        let parked = Some((0xc000_0100, 0x40_0000));
        assert_eq!(at(4), (State::Waiting(19), parked));
        assert_eq!(at(4 | SCANNED), (State::Waiting(19), parked));
        assert_eq!(at(1), (State::Runnable, parked));
        assert_eq!(at(2), (State::Running, None));
        assert_eq!(at(3), (State::Syscall, Some((0xc000_0108, 0x40_0001))));
        for dead in DEAD {
            assert_eq!(decode(&bytes(dead, 7, 0xc000_0100, 1)), Record::Dead);
        }
        assert_eq!(decode(&bytes(77, 7, 0xc000_0100, 1)), Record::Nonsense);
        assert_eq!(decode(&bytes(4, 7, u64::MAX - 7, 1)), Record::Nonsense);
        assert_eq!(decode(&bytes(4, 0, 0xc000_0100, 1)), Record::Dead, "it has no number yet");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), minor in 18u32..28) {
            let target = super::super::fuzzing::target(minor).unwrap();
            // Any answer is right; not panicking is the point.
            let _ = Record::decode(&bytes, &target.layout, &target.version);
        }
    }
}
