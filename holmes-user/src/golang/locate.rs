//! Where a program keeps the list of its goroutines: the addresses of `runtime.allglen` and
//! `runtime.allgptr`.
//!
//! A program that was stripped has no names of variables, but the code that reads them:
//! `runtime.forEachGRace` loads the length and then the pointer, each relative to the instruction. It
//! is in every program, since tracebacks call it.
//!
//! Must not: take other addresses than such of writable data. Another processor's code would be a
//! function beside `by_code`.

use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};

use super::error::GoError;
use crate::binary::{Bytes, Elf, GoTable, variables};

/// The function whose code is read.
const READER: &str = "runtime.forEachGRace";
/// Bytes that are read of a function; those that are asked for have about 120 to 2000.
const MAX_CODE_BYTES: u64 = 4096;
/// `e_machine` of x86-64, and where it is in the file's header.
const EM_X86_64: u16 = 62;
const MACHINE_AT: usize = 18;

/// Addresses of the list, as linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListPlace {
    /// How many there are. Read before the pointer: the runtime changes it behind.
    pub(super) length: u64,
    /// The pointer to an array of pointers to goroutines.
    pub(super) pointer: u64,
}

/// Finds the list, by the code or, where a newer Go's is another, by the names of the variables.
pub(super) fn find(
    bytes: Bytes<'_>,
    elf: &Elf,
    table: &mut GoTable<'_>,
) -> Result<ListPlace, GoError> {
    check_processor(elf)?;
    if let Some((code, entry)) = code_of(bytes, elf, table, READER)?
        && let Some(place) = by_code(&code, entry).filter(|place| place.is_data(elf))
    {
        return Ok(place);
    }
    let found = variables(bytes, &["runtime.allglen", "runtime.allgptr"])?;
    let address = |name| found.iter().find(|&&(found, _)| found == name).map(|&(_, at)| at);
    match (address(0), address(1)) {
        (Some(length), Some(pointer)) => Ok(ListPlace { length, pointer }),
        _ => Err(GoError::NoList { function: READER }),
    }
}

impl ListPlace {
    /// Both are words in memory that is not code.
    fn is_data(&self, elf: &Elf) -> bool {
        self.length != self.pointer && is_data(elf, self.length, 8) && is_data(elf, self.pointer, 8)
    }
}

/// Whether there may be a variable of this size: in memory that is not code.
pub(super) fn is_data(elf: &Elf, address: u64, size: u64) -> bool {
    address.is_multiple_of(size)
        && !elf.segments.iter().any(|segment| {
            let into = address.checked_sub(segment.address);
            segment.executable && into.is_some_and(|into| into < segment.size)
        })
}

/// Refuses code that is not read here.
pub(super) fn check_processor(elf: &Elf) -> Result<(), GoError> {
    let machine = crate::binary::u16_at(&elf.header, MACHINE_AT);
    if machine == EM_X86_64 { Ok(()) } else { Err(GoError::Processor) }
}

/// The code of a function, and where it begins; `None` if there is no such function.
pub(super) fn code_of(
    bytes: Bytes<'_>,
    elf: &Elf,
    table: &mut GoTable<'_>,
    name: &str,
) -> Result<Option<(Vec<u8>, u64)>, GoError> {
    let Some(function) = table.function_named(name)? else { return Ok(None) };
    let Some(offset) = elf.offset_of(function.entry) else { return Ok(None) };
    let len = (function.end - function.entry).min(MAX_CODE_BYTES);
    Ok(Some((bytes.read(offset, len as usize)?, function.entry)))
}

/// A variable that code loads relative to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Where it is.
    pub(super) address: u64,
    /// In bytes: 4 or 8.
    pub(super) size: u64,
}

/// The variables of four or eight bytes that code at `address` loads, in the order of the code.
pub(super) fn loads(code: &[u8], address: u64) -> impl Iterator<Item = Load> {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    decoder.into_iter().filter_map(|instruction| {
        let register = instruction.op0_register();
        let is_load = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && (register.is_gpr64() || register.is_gpr32())
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_base() == Register::RIP
            && instruction.segment_prefix() == Register::None;
        let size = if register.is_gpr64() { 8 } else { 4 };
        is_load.then(|| Load { address: instruction.ip_rel_memory_address(), size })
    })
}

/// The addresses that code at `address` takes relative to itself, in the order of the code.
pub(super) fn taken(code: &[u8], address: u64) -> impl Iterator<Item = u64> {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    decoder.into_iter().filter_map(|instruction| {
        let is_taken = instruction.mnemonic() == Mnemonic::Lea
            && instruction.op0_register().is_gpr64()
            && instruction.memory_base() == Register::RIP;
        is_taken.then(|| instruction.ip_rel_memory_address())
    })
}

/// The addresses of the first two words that the code loads relative to itself.
fn by_code(code: &[u8], address: u64) -> Option<ListPlace> {
    let mut words = loads(code, address).filter(|load| load.size == 8).map(|load| load.address);
    Some(ListPlace { length: words.next()?, pointer: words.next()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Go 1.26 compiles it.
    const CODE: [u8; 46] = [
        0x49, 0x3b, 0x66, 0x10, 0x76, 0x65, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0x48,
        0x89, 0x44, 0x24, 0x30, 0x90, 0x48, 0x8b, 0x0d, 0xfd, 0x83, 0x63, 0x00, 0x48, 0x89, 0x4c,
        0x24, 0x10, 0x48, 0x8b, 0x1d, 0x79, 0x5a, 0x61, 0x00, 0x48, 0x89, 0x5c, 0x24, 0x18, 0x31,
        0xd2,
    ];

    #[test]
    fn the_loads_of_the_runtime() {
        let place = by_code(&CODE, 0x45_4540);
        assert_eq!(place, Some(ListPlace { length: 0xa8_c958, pointer: 0xa6_9fe0 }));
        assert_eq!(by_code(&CODE[..34], 0x45_4540), None, "one load is not enough");
    }

    proptest! {
        #[test]
        fn no_code_panics(code in proptest::collection::vec(any::<u8>(), 0..256), at: u64) {
            // Any answer is right; not panicking is the point.
            let _ = by_code(&code, at);
            let _ = taken(&code, at).count();
        }
    }
}
