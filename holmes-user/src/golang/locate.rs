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
/// Bytes of it that are read; it has about 120, and the loads are among the first.
const MAX_CODE_BYTES: u64 = 256;
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
    if crate::binary::u16_at(&elf.header, MACHINE_AT) != EM_X86_64 {
        return Err(GoError::Processor);
    }
    if let Some(function) = table.function_named(READER)? {
        let len = (function.end - function.entry).min(MAX_CODE_BYTES);
        if let Some(offset) = elf.offset_of(function.entry) {
            let code = bytes.read(offset, len as usize)?;
            if let Some(place) = by_code(&code, function.entry).filter(|place| place.is_data(elf)) {
                return Ok(place);
            }
        }
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
        let is_data = |address: u64| {
            address.is_multiple_of(8)
                && !elf.segments.iter().any(|segment| {
                    let into = address.checked_sub(segment.address);
                    segment.executable && into.is_some_and(|into| into < segment.size)
                })
        };
        self.length != self.pointer && is_data(self.length) && is_data(self.pointer)
    }
}

/// The addresses of the first two words that the code loads relative to itself.
fn by_code(code: &[u8], address: u64) -> Option<ListPlace> {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut loads = decoder.into_iter().filter_map(|instruction| {
        let is_load = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().is_gpr64()
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_base() == Register::RIP
            && instruction.segment_prefix() == Register::None;
        is_load.then(|| instruction.ip_rel_memory_address())
    });
    Some(ListPlace { length: loads.next()?, pointer: loads.next()? })
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
        }
    }
}
