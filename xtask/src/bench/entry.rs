//! Where a program begins: how the frame of its entry is shown where the program has no symbols.
//!
//! The ELF header and the program headers, as elf(5) has them, for 64-bit little-endian programs.
//!
//! Must not: fail on a file that is none. Then no frame is the entry.

use std::path::Path;

/// The entry is a short piece of assembler; no other function can begin so close behind it.
const ENTRY_BYTES: u64 = 64;

/// `PT_LOAD`: a part of the file that is mapped.
const PT_LOAD: u32 = 1;

/// A program's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the program's path.
    module: String,
    /// Offset in the file.
    offset: u64,
}

impl Entry {
    /// Of the program that this process executes, if it is one.
    pub fn of(pid: u32) -> Option<Self> {
        let link = format!("/proc/{pid}/exe");
        let path = std::fs::read_link(&link).ok()?;
        Some(Self { module: name(&path)?, offset: offset(&std::fs::read(&link).ok()?)? })
    }

    /// Whether this is how a frame in the entry is shown: `module+0xoffset`.
    pub fn is(&self, frame: &str) -> bool {
        let Some((module, offset)) = frame.rsplit_once("+0x") else { return false };
        let offset = u64::from_str_radix(offset, 16).ok();
        let inside =
            |offset: u64| offset.checked_sub(self.offset).is_some_and(|at| at < ENTRY_BYTES);
        module == self.module && offset.is_some_and(inside)
    }
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The offset in the file of the entry's address.
fn offset(elf: &[u8]) -> Option<u64> {
    let is_elf64_le = elf.starts_with(b"\x7fELF\x02\x01");
    let entry = number(elf, 24, 8).filter(|_| is_elf64_le)?;
    let table = number(elf, 32, 8)?;
    let (size, count) = (number(elf, 54, 2)?, number(elf, 56, 2)?);
    (0..count).find_map(|index| {
        let header = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        let field = |at: usize| number(elf, header.checked_add(at)?, 8);
        let (from, address, length) = (field(8)?, field(16)?, field(32)?);
        let inside = entry.checked_sub(address).filter(|at| *at < length)?;
        let is_load = number(elf, header, 4)? == u64::from(PT_LOAD);
        is_load.then(|| from.checked_add(inside)).flatten()
    })
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_where_the_program_headers_map_it() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[24..32].copy_from_slice(&0x401_040_u64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        // The first header is no PT_LOAD, though it covers the address.
        for (header, kind) in [(64, 4), (120, 1)] {
            elf[header] = kind;
            elf[header + 8..header + 16].copy_from_slice(&0x1000_u64.to_le_bytes());
            elf[header + 16..header + 24].copy_from_slice(&0x401_000_u64.to_le_bytes());
            elf[header + 32..header + 40].copy_from_slice(&0x200_u64.to_le_bytes());
        }
        assert_eq!(offset(&elf), Some(0x1040));
        for length in 0..elf.len() {
            // Cut short it has an entry only while all that is read is there.
            assert!(offset(&elf[..length]).is_none() || length >= 160, "{length}");
        }
        assert_eq!(offset(b"#!/bin/sh"), None);
    }

    #[test]
    fn a_frame_in_the_entry_is_known_by_module_and_offset() {
        let entry = Entry { module: "openssl".into(), offset: 0x1040 };
        assert!(entry.is("openssl+0x1061"));
        for other in
            ["openssl+0x1080", "openssl+0x103f", "libc.so.6+0x1061", "_start", "openssl+0x"]
        {
            assert!(!entry.is(other), "{other}");
        }
    }

    #[test]
    fn this_process_has_an_entry() {
        assert!(Entry::of(std::process::id()).is_some());
    }
}
