//! Where a program keeps its heap profile: the addresses of `runtime.mbuckets`, of the number of its
//! cycle, and of `runtime.MemProfileRate`.
//!
//! A program that was stripped has no names of variables, but code that loads them, each relative to the
//! instruction: functions that every program has, as the collector and the allocator call them.
//!
//! Must not: take other addresses than such of writable data.

use super::super::error::GoError;
use super::super::locate::{self, Load, check_processor, code_of, is_data};
use super::super::program::GoProgram;
use crate::binary::{Bytes, Elf, GoTable, variables};

/// It adds the counts of a cycle to those that are told, and goes through all buckets for that.
const ADDS: &str = "runtime.mProf_FlushLocked";
/// It calls that, once in each cycle.
const ONCE: &str = "runtime.mProf_Flush";
/// It takes a sample, and draws when the next one is due.
const SAMPLES: &str = "runtime.profilealloc";

/// The variables of a heap profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct HeapPlace {
    /// The pointer to the newest bucket.
    pub(in super::super) buckets: u64,
    /// Four bytes: the number of the cycle, and from Go 1.19 on a bit below it.
    pub(in super::super) cycle: u64,
    /// A word: how many bytes there are between two samples.
    pub(in super::super) rate: u64,
}

impl HeapPlace {
    /// Where it is in a process that was loaded so far from where it was linked to.
    pub(super) fn moved(self, bias: u64) -> Self {
        let moved = |address: u64| address.wrapping_add(bias);
        Self { buckets: moved(self.buckets), cycle: moved(self.cycle), rate: moved(self.rate) }
    }

    /// All are in memory that is not code, and apart.
    fn is_data(&self, elf: &Elf) -> bool {
        let Self { buckets, cycle, rate } = *self;
        is_data(elf, buckets, 8)
            && is_data(elf, cycle, 4)
            && is_data(elf, rate, 8)
            && buckets != rate
    }
}

impl GoProgram {
    /// Finds the heap profile: by the names of its variables or, where there are none, by the code.
    pub(super) fn heap_place(&self) -> Result<HeapPlace, GoError> {
        check_processor(&self.elf)?;
        let bytes = Bytes::File(&self.file);
        let minor = self.version.minor;
        if let Some(place) = by_name(bytes, minor)?.filter(|place| place.is_data(&self.elf)) {
            return Ok(place);
        }
        let place = by_code(bytes, &self.elf, &mut self.table()?, minor)?;
        place.filter(|place| place.is_data(&self.elf)).ok_or(GoError::NoHeapList { function: ADDS })
    }
}

fn by_name(bytes: Bytes<'_>, minor: u32) -> Result<Option<HeapPlace>, GoError> {
    // Before Go 1.19 the cycle was the first field of a struct.
    let cycle = if minor < 19 { "runtime.mProf" } else { "runtime.mProfCycle" };
    let found = variables(bytes, &["runtime.mbuckets", cycle, "runtime.MemProfileRate"])?;
    let address = |name| found.iter().find(|&&(found, _)| found == name).map(|&(_, at)| at);
    let place = || Some(HeapPlace { buckets: address(0)?, cycle: address(1)?, rate: address(2)? });
    Ok(place())
}

fn by_code(
    bytes: Bytes<'_>,
    elf: &Elf,
    table: &mut GoTable<'_>,
    minor: u32,
) -> Result<Option<HeapPlace>, GoError> {
    let mut of = |function| -> Result<Vec<Load>, GoError> {
        let code = code_of(bytes, elf, table, function)?;
        Ok(code.map_or_else(Vec::new, |(code, entry)| locate::loads(&code, entry).collect()))
    };
    let (adds, once, samples) = (of(ADDS)?, of(ONCE)?, of(SAMPLES)?);
    Ok(by_loads(&adds, &once, &samples, minor))
}

/// The variables among those that the three functions load.
fn by_loads(adds: &[Load], once: &[Load], samples: &[Load], minor: u32) -> Option<HeapPlace> {
    let sized = |loads: &[Load], size: u64| -> Vec<u64> {
        loads.iter().filter(|load| load.size == size).map(|load| load.address).collect()
    };
    // Its caller tells it the cycle since Go 1.19.
    let tells = if minor < 19 { adds } else { once };
    Some(HeapPlace {
        buckets: *sized(adds, 8).first()?,
        cycle: *sized(tells, 4).first()?,
        // Behind the cache of a thread that has no other one.
        rate: *sized(samples, 8).get(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(address: u64, size: u64) -> Load {
        Load { address, size }
    }

    /// As Go 1.18 and Go 1.26 compile them.
    #[test]
    fn the_loads_of_the_runtime() {
        let place = HeapPlace { buckets: 0x5a_d7b0, cycle: 0x5a_d7a8, rate: 0x5a_d6f8 };
        let samples = [load(0x5a_d7b8, 8), load(place.rate, 8)];
        let adds = [load(place.cycle, 4), load(place.buckets, 8)];
        assert_eq!(by_loads(&adds, &[], &samples, 18), Some(place));
        let once = [load(place.cycle, 4)];
        assert_eq!(by_loads(&adds[1..], &once, &samples, 26), Some(place));
        assert_eq!(by_loads(&adds[1..], &[], &samples, 26), None);
        assert_eq!(by_loads(&adds, &once, &samples[..1], 26), None);
    }
}
