//! Where a program keeps the table of those that wait for locks: the address of `runtime.semtable`.
//!
//! A program that was stripped has no names of variables, but the code that takes the address:
//! `runtime.semrelease1` does so at its beginning. It is in every program, since the collector calls it.
//!
//! Must not: take another address than one of writable data that has room for the table.

use super::super::error::GoError;
use super::super::locate::{self, check_processor, code_of};
use super::super::program::GoProgram;
use super::{ROOT, ROOTS};
use crate::binary::{Bytes, Elf, u32_at, u64_at, variables};

/// The function whose code is read.
const WAKES: &str = "runtime.semrelease1";

/// In a program header (`elf.h`): the flag of writable memory, and where flags and size in memory are.
/// What begins as zeroes has no bytes in the file.
const PF_W: u32 = 2;
const FLAGS_AT: usize = 4;
const MEMORY_SIZE_AT: usize = 40;

impl GoProgram {
    /// Finds the table, by the code or by its name, as linked; `None` if neither tells.
    pub(in super::super) fn lock_table(&self) -> Result<Option<u64>, GoError> {
        check_processor(&self.elf)?;
        let bytes = Bytes::File(&self.file);
        if let Some((code, entry)) = code_of(bytes, &self.elf, &mut self.table()?, WAKES)?
            && let Some(table) = by_code(&code, entry, |at| is_table(&self.elf, at))
        {
            return Ok(Some(table));
        }
        let found = variables(bytes, &["runtime.semtable"])?;
        Ok(found.first().map(|&(_, table)| table).filter(|&table| is_table(&self.elf, table)))
    }
}

/// The first address that the code takes, if it may be the table's.
fn by_code(code: &[u8], address: u64, is_table: impl Fn(u64) -> bool) -> Option<u64> {
    locate::taken(code, address).next().filter(|&table| is_table(table))
}

/// Whether the whole table may be there.
fn is_table(elf: &Elf, address: u64) -> bool {
    address.is_multiple_of(8)
        && elf.segments.iter().any(|segment| {
            let is_writable = u32_at(&segment.header, FLAGS_AT) & PF_W != 0;
            let size = u64_at(&segment.header, MEMORY_SIZE_AT);
            let into = address.checked_sub(segment.address);
            let end = into.and_then(|into| into.checked_add(ROOTS * ROOT));
            is_writable && end.is_some_and(|end| end <= size)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go 1.26 compiles it.
    const CODE: [u8; 11] = [0x48, 0xc1, 0xe6, 0x06, 0x48, 0x8d, 0x15, 0x95, 0xd5, 0x1a, 0x00];

    #[test]
    fn the_first_address_that_is_taken() {
        assert_eq!(by_code(&CODE, 0x46_11a0, |_| true), Some(0x60_e740));
        assert_eq!(by_code(&CODE, 0x46_11a0, |_| false), None);
        assert_eq!(by_code(&CODE[..10], 0x46_11a0, |_| true), None);
    }
}
