//! The list of goroutines: where each one's record is.
//!
//! Must not: trust its length.

use super::error::GoError;
use super::memory::{END, Memory, Piece};
use super::target::Target;
use crate::binary::u64_at;

/// Goroutines of a process. Each takes at least 2.5 KiB there: a million are 2.5 GiB.
pub(super) const MAX_GOROUTINES: u64 = 1 << 20;

/// Times that a list is read which has moved meanwhile. It moves when it has grown by a quarter.
const TRIES: u32 = 8;

/// Bytes of the list that are read as one piece.
const PIECE: usize = 64 << 10;

/// Reads the addresses of all records, dead ones too.
pub(super) fn read(memory: &impl Memory, target: &Target) -> Result<Vec<u64>, GoError> {
    let of = |error| GoError::of(target.pid, error);
    let nonsense = |what| target.nonsense(what);
    let variables =
        [target.list.length, target.list.pointer].map(|address| Piece { address, len: 8 });
    let mut bytes = Vec::new();
    for _ in 0..TRIES {
        // In this order: the runtime sets the pointer first.
        let are_there = memory.read(&variables, &mut bytes).map_err(of)?;
        let (length, pointer) = (u64_at(&bytes, 0), u64_at(&bytes, 8));
        if are_there.contains(&false) {
            return Err(nonsense("the list of goroutines is not in memory"));
        }
        if length == 0 || pointer == 0 {
            return Err(nonsense("it has no goroutines"));
        }
        if length > MAX_GOROUTINES || pointer % 8 != 0 || pointer >= END {
            return Err(nonsense("the list of goroutines is too long, or nowhere"));
        }
        let whole = length as usize * 8;
        let pieces: Vec<Piece> = (0..whole)
            .step_by(PIECE)
            .map(|from| Piece { address: pointer + from as u64, len: PIECE.min(whole - from) })
            .collect();
        let mut list = Vec::new();
        let are_there = memory.read(&pieces, &mut list).map_err(of)?;
        // Where the old one is given back, it may hold anything by now.
        memory.read(&variables, &mut bytes).map_err(of)?;
        if u64_at(&bytes, 8) != pointer {
            continue;
        }
        if are_there.contains(&false) {
            return Err(nonsense("a part of the list of goroutines is not in memory"));
        }
        let (words, _) = list.as_chunks::<8>();
        let addresses: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        if addresses.iter().any(|&at| at == 0 || at % 8 != 0 || at >= END) {
            return Err(nonsense("the list of goroutines holds something else"));
        }
        return Ok(addresses);
    }
    Err(GoError::Restless)
}
