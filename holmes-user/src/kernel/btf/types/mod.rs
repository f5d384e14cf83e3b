//! A reader of BTF: finds a few named types among the hundred thousand of a kernel.
//!
//! One pass over the bytes checks every type's length and notes where the wanted names are; beside
//! the bytes it keeps a place for every 64th type. Bytes are checked wherever they are read, and
//! every walk has a bound.
//!
//! Must not: know which types anybody wants, or trust a number in the bytes.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>.

mod record;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

pub(in crate::kernel) use self::record::Kind;
use self::record::{ENUM_MEMBER, ENUM64_MEMBER, MEMBER, Record, word};
use super::error::BtfError;

/// The mark at the beginning, in the byte order of the machine that wrote it.
const MAGIC: u16 = 0xeb9f;

/// Bytes of the part of the header that every version has.
const HEADER: usize = 24;

/// Bytes read of a file: 6 MiB is usual, a kernel with everything built in stays below 32.
const MAX_BYTES: u64 = 32 << 20;

/// How many types share one entry of the index: looking one up skips half as many.
const STRIDE: usize = 64;

/// Structs without a name nest two or three deep in the kernel; a cycle would be nonsense.
const MAX_NESTING: usize = 8;

/// Members looked at for one answer. The largest struct has some hundreds.
const MAX_MEMBERS: usize = 1 << 16;

/// Types kept for one blob, of all wanted names. A name has one or two.
const MAX_FOUND: usize = 1 << 10;

/// Where a wanted name was found.
#[derive(Debug)]
struct Found {
    name: String,
    record: Record,
}

/// The types of a kernel, of which those with wanted names can be looked at.
#[derive(Debug)]
pub(in crate::kernel) struct Types {
    bytes: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Where every [`STRIDE`]th type begins; type numbers begin at 1.
    index: Vec<u32>,
    found: Vec<Found>,
}

impl Types {
    /// Reads a file of BTF.
    ///
    /// # Errors
    /// If it cannot be read, or is not understood.
    pub(in crate::kernel) fn read(path: &Path, wanted: &[&str]) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len().min(MAX_BYTES);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Self::parse(bytes, wanted).map_err(io::Error::other)
    }

    /// Goes through all types once, and keeps those of the wanted names.
    ///
    /// # Errors
    /// If the bytes are no BTF of this machine, or not understood to their end.
    pub(in crate::kernel) fn parse(bytes: Vec<u8>, wanted: &[&str]) -> Result<Self, BtfError> {
        let (types, strings) = sections(&bytes)?;
        let mut parsed = Self { bytes, types, strings, index: Vec::new(), found: Vec::new() };
        // Most names are told apart by their first byte.
        let mut first = [false; 256];
        for name in wanted {
            if let Some(byte) = name.as_bytes().first() {
                first[usize::from(*byte)] = true;
            }
        }
        let mut at = parsed.types.start;
        let mut count: usize = 0;
        while at < parsed.types.end {
            let id = u32::try_from(count + 1).unwrap_or(u32::MAX);
            let record = parsed.record(at).ok_or(BtfError::Short { id })?;
            let end = record.end().ok_or(BtfError::Kind { id, kind: record.raw_kind() })?;
            if end > parsed.types.end {
                return Err(BtfError::Short { id });
            }
            if count.is_multiple_of(STRIDE) {
                // Fits: no more than `MAX_BYTES` are read, and a test's blob is smaller.
                parsed.index.push(u32::try_from(at).map_err(|_| BtfError::Sections)?);
            }
            if parsed.name_begins(&record).is_some_and(|byte| first[usize::from(byte)]) {
                let name = wanted.iter().find(|name| parsed.is_named(record.name, name));
                if let Some(name) = name.filter(|_| parsed.found.len() < MAX_FOUND) {
                    parsed.found.push(Found { name: (*name).to_owned(), record });
                }
            }
            at = end;
            count += 1;
        }
        Ok(parsed)
    }

    /// Whether there is a type of this kind and name. The name must be one of those wanted.
    pub(in crate::kernel) fn has(&self, kind: Kind, name: &str) -> bool {
        self.named(kind, name).next().is_some()
    }

    /// The offset in bytes of a member of a struct, also of one in a nameless struct or union
    /// inside it. A bit field has none.
    pub(in crate::kernel) fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        let mut left = MAX_MEMBERS;
        let bits = self
            .named(Kind::Struct, structure)
            .find_map(|record| self.member(&record, member, 0, &mut left))?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// The size of a struct in bytes.
    pub(in crate::kernel) fn size(&self, structure: &str) -> Option<u32> {
        self.named(Kind::Struct, structure).next().map(|record| record.size_or_type)
    }

    /// The value of a member of an enum.
    pub(in crate::kernel) fn enum_value(&self, enumeration: &str, member: &str) -> Option<u64> {
        let narrow = self.named(Kind::Enum, enumeration).find_map(|record| {
            let at = self.enum_member(&record, ENUM_MEMBER, member)?;
            Some(u64::from(self.word(at + 4)?))
        });
        narrow.or_else(|| {
            self.named(Kind::Enum64, enumeration).find_map(|record| {
                let at = self.enum_member(&record, ENUM64_MEMBER, member)?;
                Some(u64::from(self.word(at + 8)?) << 32 | u64::from(self.word(at + 4)?))
            })
        })
    }

    fn enum_member(&self, record: &Record, size: usize, member: &str) -> Option<usize> {
        record
            .members(size)
            .find(|at| self.word(*at).is_some_and(|name| self.is_named(name, member)))
    }

    fn named(&self, kind: Kind, name: &str) -> impl Iterator<Item = Record> {
        self.found
            .iter()
            .filter(move |found| found.record.kind() == Some(kind) && found.name == name)
            .map(|found| found.record)
    }

    /// The offset of a member in bits from the beginning of the struct.
    fn member(&self, record: &Record, name: &str, depth: usize, left: &mut usize) -> Option<u32> {
        if depth > MAX_NESTING || name.is_empty() {
            return None;
        }
        for at in record.members(MEMBER) {
            *left = left.checked_sub(1)?;
            let (own, kind) = (self.word(at)?, self.word(at + 4)?);
            let (bits, is_bit_field) = record.member_offset(self.word(at + 8)?);
            if self.is_named(own, name) {
                return (!is_bit_field).then_some(bits);
            }
            if self.is_named(own, "")
                && let Some(inner) = self.aggregate(kind)
                && let Some(more) = self.member(&inner, name, depth + 1, left)
            {
                return bits.checked_add(more);
            }
        }
        None
    }

    /// The struct or union of this number, behind `const` and the like.
    fn aggregate(&self, mut id: u32) -> Option<Record> {
        for _ in 0..MAX_NESTING {
            let record = self.by_id(id)?;
            match record.kind()? {
                Kind::Struct | Kind::Union => return Some(record),
                kind if kind.is_modifier() => id = record.size_or_type,
                _ => return None,
            }
        }
        None
    }

    fn by_id(&self, id: u32) -> Option<Record> {
        // Number 0 is `void`, which has no record.
        let position = usize::try_from(id.checked_sub(1)?).ok()?;
        let mut at = usize::try_from(*self.index.get(position / STRIDE)?).ok()?;
        for _ in 0..position % STRIDE {
            at = self.record(at)?.end()?;
        }
        self.record(at)
    }

    /// The record at this place, if it lies within the section.
    fn record(&self, at: usize) -> Option<Record> {
        Record::read(self.bytes.get(..self.types.end)?, at)
    }

    fn word(&self, at: usize) -> Option<u32> {
        word(self.bytes.get(..self.types.end)?, at)
    }

    fn name_begins(&self, record: &Record) -> Option<u8> {
        let strings = self.bytes.get(self.strings.clone())?;
        strings.get(usize::try_from(record.name).ok()?).copied()
    }

    /// Whether the string at this offset is `name`. One outside the section is none at all.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(self.strings.clone())?.get(offset..))
            .and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// The places of the types and of the strings.
fn sections(bytes: &[u8]) -> Result<(Range<usize>, Range<usize>), BtfError> {
    let magic = bytes.first_chunk::<2>().map(|magic| u16::from_ne_bytes(*magic));
    match magic {
        Some(MAGIC) => {}
        Some(magic) if magic == MAGIC.swap_bytes() => return Err(BtfError::ByteOrder),
        _ => return Err(BtfError::NoMagic),
    }
    match bytes.get(2) {
        Some(1) => {}
        Some(version) => return Err(BtfError::Version(*version)),
        None => return Err(BtfError::Sections),
    }
    let field = |at| word(bytes, at).and_then(|value| usize::try_from(value).ok());
    let header = field(4).filter(|header| *header >= HEADER).ok_or(BtfError::Sections)?;
    let section = |at| {
        let start = header.checked_add(field(at)?)?;
        let end = start.checked_add(field(at + 4)?)?;
        (end <= bytes.len()).then_some(start..end)
    };
    section(8).zip(section(16)).ok_or(BtfError::Sections)
}

#[cfg(test)]
mod tests;
