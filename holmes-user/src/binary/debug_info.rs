//! What a program's debug information says of types, constants and variables that are asked for by name.
//!
//! Format: DWARF 4 and 5 as Go writes them: names within the entries, sections compressed or not
//! (`SHF_COMPRESSED` of `elf.h`).
//!
//! Must not: unpack without a bound, or follow a reference into another one.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use flate2::read::ZlibDecoder;
use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugInfoOffset, EndianSlice,
    LittleEndian, Section as _, UnitHeader, constants,
};

use super::bytes::{BinaryError, Bytes, u32_at, u64_at};
use super::elf::Elf;

/// Bytes of the entries, unpacked. Programs of a hundred megabytes have about thirty.
const MAX_INFO_BYTES: u64 = 64 << 20;
/// Bytes of a section that is to be unpacked: they are in memory beside what comes of them, which is three times
/// as much or more.
const MAX_PACKED_BYTES: u64 = 24 << 20;
/// Bytes of what says how entries look. Go's linker writes less than a kilobyte.
const MAX_ABBREV_BYTES: u64 = 1 << 20;
/// Entries and their attributes that are looked at, half a second's work. Programs of a hundred megabytes have
/// some millions in the runtime's part.
const MAX_WORK: u64 = 1 << 24;
/// Members kept of a type; the runtime's largest have about 80.
pub(super) const MAX_MEMBERS: usize = 256;

/// `SHF_COMPRESSED`, and what such a section begins with: the way (`ELFCOMPRESS_ZLIB`) and the bytes.
const COMPRESSED: u64 = 0x800;
const ZLIB: u32 = 1;
const HEAD: usize = 24;
const SIZE_AT: usize = 8;

const LARGE: BinaryError = BinaryError::Malformed("its debug information is too large");
const MALFORMED: BinaryError = BinaryError::Malformed("its debug information cannot be read");

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;

/// A type with members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StructFacts {
    /// Its bytes.
    pub size: u64,
    /// How far into it each member is, in bytes.
    pub members: BTreeMap<String, u64>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugFacts {
    /// Types with members.
    pub structs: BTreeMap<String, StructFacts>,
    /// Constants that are numbers.
    pub constants: BTreeMap<String, i64>,
    /// How many elements the arrays have that are variables.
    pub lengths: BTreeMap<String, u64>,
}

impl DebugFacts {
    /// Finds what has these names in units of one of these, which are Go's packages or hold their types;
    /// `None` if there is no debug information.
    ///
    /// # Errors
    /// The file cannot be read, or its debug information is malformed, packed in another way or too large.
    pub fn find(
        bytes: Bytes<'_>,
        elf: &Elf,
        units: &[&str],
        names: &[&str],
    ) -> Result<Option<Self>, BinaryError> {
        let info = section(bytes, elf, ".debug_info", MAX_INFO_BYTES)?;
        let abbrev = section(bytes, elf, ".debug_abbrev", MAX_ABBREV_BYTES)?;
        let (Some(info), Some(abbrev)) = (info, abbrev) else { return Ok(None) };
        read(&info, &abbrev, units, names).map(Some)
    }
}

pub(super) fn read(
    info: &[u8],
    abbrev: &[u8],
    units: &[&str],
    names: &[&str],
) -> Result<DebugFacts, BinaryError> {
    let info = gimli::DebugInfo::new(info, LittleEndian);
    let abbrev = DebugAbbrev::new(abbrev, LittleEndian);
    let mut search = Search {
        abbrev,
        known: None,
        units,
        names,
        facts: DebugFacts::default(),
        arrays: Vec::new(),
        work_left: MAX_WORK,
    };
    let mut headers = info.units();
    while let Some(header) = headers.next().map_err(malformed)? {
        search.visit(&header)?;
    }
    for (name, place) in std::mem::take(&mut search.arrays) {
        if let Some(length) = search.length(info, place)? {
            search.facts.lengths.insert(name, length);
        }
    }
    Ok(search.facts)
}

/// What is asked for, and what was found of it.
struct Search<'a> {
    abbrev: DebugAbbrev<Slice<'a>>,
    /// What was decoded last of `abbrev`, and where that is: Go's units have all the same.
    known: Option<(DebugAbbrevOffset, Arc<Abbreviations>)>,
    units: &'a [&'a str],
    names: &'a [&'a str],
    facts: DebugFacts,
    /// Variables whose types are to be looked at.
    arrays: Vec<(String, DebugInfoOffset)>,
    /// Of [`MAX_WORK`].
    work_left: u64,
}

impl<'a> Search<'a> {
    fn work(&mut self, work: u64) -> Result<(), BinaryError> {
        match self.work_left.checked_sub(work) {
            Some(left) => self.work_left = left,
            None => return Err(LARGE),
        }
        Ok(())
    }

    /// How the entries of a unit look.
    fn abbreviations(
        &mut self,
        header: &UnitHeader<Slice<'a>>,
    ) -> Result<Arc<Abbreviations>, BinaryError> {
        let place = header.debug_abbrev_offset();
        match &self.known {
            Some((known, abbreviations)) if *known == place => Ok(Arc::clone(abbreviations)),
            _ => {
                // Up to the end, at the worst.
                self.work((self.abbrev.reader().len() / 2) as u64)?;
                let abbreviations =
                    Arc::new(header.abbreviations(&self.abbrev).map_err(malformed)?);
                self.known = Some((place, Arc::clone(&abbreviations)));
                Ok(abbreviations)
            }
        }
    }

    /// How many elements the type at this place has; `None` if it is no array's.
    fn length(
        &mut self,
        info: gimli::DebugInfo<Slice<'a>>,
        place: DebugInfoOffset,
    ) -> Result<Option<u64>, BinaryError> {
        let mut headers = info.units();
        while let Some(header) = headers.next().map_err(malformed)? {
            self.work(1)?;
            let Some(offset) = place.to_unit_offset(&header) else { continue };
            let abbreviations = self.abbreviations(&header)?;
            let entries = header.entries_at_offset(&abbreviations, offset);
            let mut entries = entries.map_err(malformed)?;
            // One by one: what is asked for next would be looked for behind any number of empty entries.
            entries.next_entry().map_err(malformed)?;
            let array = entries.current();
            self.work(array.map_or(1, cost))?;
            if array.is_none_or(|entry| entry.tag() != constants::DW_TAG_array_type) {
                break;
            }
            entries.next_entry().map_err(malformed)?;
            let range = entries.current();
            self.work(range.map_or(1, cost))?;
            return Ok(range.and_then(|range| number(range, constants::DW_AT_count)));
        }
        Ok(None)
    }

    /// Takes what is asked for from a unit.
    fn visit(&mut self, header: &UnitHeader<Slice<'a>>) -> Result<(), BinaryError> {
        let abbreviations = self.abbreviations(header)?;
        let mut entries = header.entries(&abbreviations);
        let root = entries.next_dfs().map_err(malformed)?;
        self.work(root.map_or(1, cost))?;
        if !root
            .and_then(name)
            .is_some_and(|root| self.units.iter().any(|it| it.as_bytes() == root))
        {
            return Ok(());
        }
        // The type whose members follow.
        let mut open: Option<String> = None;
        while let Some(entry) = entries.next_dfs().map_err(malformed)? {
            self.work(cost(entry))?;
            if entry.depth() == 1 {
                open = self.take(entry);
            } else if let Some(open) =
                open.as_ref().filter(|_| entry.tag() == constants::DW_TAG_member)
                && let Some(found) = self.facts.structs.get_mut(open)
                && let Some(name) = name(entry)
                && let Some(at) = number(entry, constants::DW_AT_data_member_location)
                && found.members.len() < MAX_MEMBERS
            {
                found.members.insert(String::from_utf8_lossy(name).into_owned(), at);
            }
        }
        Ok(())
    }

    /// Takes an entry if it is asked for; the name of a type whose members follow.
    fn take(&mut self, entry: &Entry<'a>) -> Option<String> {
        let name = name(entry)?;
        let wanted = self.names.iter().find(|it| it.as_bytes() == name)?;
        let wanted = (*wanted).to_owned();
        match entry.tag() {
            constants::DW_TAG_structure_type => {
                let size = number(entry, constants::DW_AT_byte_size).unwrap_or_default();
                let found = StructFacts { size, members: BTreeMap::new() };
                self.facts.structs.insert(wanted.clone(), found);
                return Some(wanted);
            }
            constants::DW_TAG_constant => {
                let value = entry.attr_value(constants::DW_AT_const_value)?.sdata_value()?;
                self.facts.constants.insert(wanted, value);
            }
            constants::DW_TAG_variable if self.arrays.len() < self.names.len() => {
                if let AttributeValue::DebugInfoRef(place) =
                    entry.attr_value(constants::DW_AT_type)?
                {
                    self.arrays.push((wanted, place));
                }
            }
            _ => {}
        }
        None
    }
}

fn malformed(_: gimli::Error) -> BinaryError {
    MALFORMED
}

/// The work that an entry is.
fn cost(entry: &Entry<'_>) -> u64 {
    1 + entry.attrs().len() as u64
}

/// The name, where the entry itself holds it.
fn name<'a>(entry: &Entry<'a>) -> Option<&'a [u8]> {
    match entry.attr_value(constants::DW_AT_name) {
        Some(AttributeValue::String(name)) => Some(name.slice()),
        _ => None,
    }
}

fn number(entry: &Entry<'_>, attribute: gimli::DwAt) -> Option<u64> {
    entry.attr_value(attribute)?.udata_value()
}

/// The bytes of a section, unpacked; `None` if the file has none of this name.
fn section(
    bytes: Bytes<'_>,
    elf: &Elf,
    name: &str,
    max: u64,
) -> Result<Option<Vec<u8>>, BinaryError> {
    let Some(section) = elf.section(name) else { return Ok(None) };
    let is_packed = section.flags & COMPRESSED != 0;
    if section.size > if is_packed { max.min(MAX_PACKED_BYTES) } else { max } {
        return Err(LARGE);
    }
    let packed = bytes.read(section.offset, section.size as usize)?;
    if !is_packed {
        return Ok(Some(packed));
    }
    let (size, stream) = (u64_at(&packed, SIZE_AT), packed.get(HEAD..).ok_or(MALFORMED)?);
    if size > max {
        return Err(LARGE);
    }
    if u32_at(&packed, 0) != ZLIB {
        return Err(MALFORMED);
    }
    let mut plain = Vec::new();
    // What the head says is the target's word.
    ZlibDecoder::new(stream).take(size).read_to_end(&mut plain).map_err(|_| MALFORMED)?;
    Ok(Some(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Units, types with members, members, constants, variables, arrays and their ranges: the tag, whether
    /// others follow within, and the attributes.
    const ABBREV: [u8; 55] = [
        1, 0x11, 1, 0x03, 0x08, 0, 0, // a name
        2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0f, 0, 0, // and a size
        3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0f, 0, 0, // and a place
        4, 0x27, 0, 0x03, 0x08, 0x1c, 0x0d, 0, 0, // and a value
        5, 0x34, 0, 0x03, 0x08, 0x49, 0x10, 0, 0, // and a type
        6, 0x01, 1, 0, 0, // nothing
        7, 0x21, 0, 0x37, 0x0f, 0, 0, // a count
    ];

    fn unit(name: &str, entries: &[u8]) -> Vec<u8> {
        let mut unit = vec![0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1];
        unit.extend(name.as_bytes());
        unit.push(0);
        unit.extend(entries);
        unit.push(0);
        let len = unit.len() as u32 - 4;
        unit[..4].copy_from_slice(&len.to_le_bytes());
        unit
    }

    fn info() -> Vec<u8> {
        info_with(&[6, 7, 47, 0])
    }

    /// The first entries behind the first unit's name are those of an array.
    fn info_with(array: &[u8]) -> Vec<u8> {
        let mut info = unit("types", array);
        let array = 12 + 6;
        let mut entries = b"\x02pkg.g\0\x28\x03goid\0\x08\x03m\0\x10\0".to_vec();
        entries.extend(b"\x04pkg.dead\0\x06\x04pkg.other\0\x07\x05pkg.texts\0");
        entries.extend([array, 0, 0, 0]);
        entries.extend(b"\x05pkg.number\0\0\0\0\0");
        info.extend(unit("pkg", &entries));
        info.extend(unit("other", b"\x04pkg.dead\0\x07"));
        info
    }

    const NAMES: [&str; 4] = ["pkg.g", "pkg.dead", "pkg.texts", "pkg.number"];

    #[test]
    fn what_is_asked_for_is_found() {
        let facts = read(&info(), &ABBREV, &["pkg"], &NAMES).unwrap();
        let members = [("goid".to_owned(), 8), ("m".to_owned(), 16)];
        let found = StructFacts { size: 40, members: members.into() };
        let expected = DebugFacts {
            structs: [("pkg.g".to_owned(), found)].into(),
            constants: [("pkg.dead".to_owned(), 6)].into(),
            lengths: [("pkg.texts".to_owned(), 47)].into(),
        };
        assert_eq!(facts, expected);
    }

    /// Else what has nothing behind it but empty entries would be gone through for each that refers to it.
    #[test]
    fn a_length_is_right_behind_its_array() {
        let facts = read(&info_with(&[6, 0, 0, 7, 47, 0]), &ABBREV, &["pkg"], &NAMES).unwrap();
        assert_eq!(facts.lengths, BTreeMap::new());
        assert_eq!(facts.constants.len(), 1);
    }

    #[test]
    fn work_has_an_end() {
        // Units without a name, each with a table of its own to decode.
        let unit = |at: u32| [&[7, 0, 0, 0, 4, 0][..], &at.to_le_bytes(), &[8]].concat();
        let info: Vec<u8> = (0..1 << 12).flat_map(unit).collect();
        let abbrev = vec![0; 1 << 14];
        assert!(
            matches!(read(&info, &abbrev, &[], &[]), Err(BinaryError::Malformed(text)) if text.contains("large"))
        );
    }

    proptest! {
        #[test]
        fn lies_do_no_harm(
            changes in proptest::collection::vec((0usize..200, any::<u8>()), 1..8),
            len in 0usize..200,
        ) {
            let (mut info, mut abbrev) = (info(), ABBREV);
            for (at, value) in changes {
                match info.get_mut(at) {
                    Some(byte) => *byte = value,
                    None => abbrev[at % ABBREV.len()] = value,
                }
            }
            info.truncate(len);
            // Either answer is right; not panicking, and coming to an end, is the point.
            let _ = read(&info, &abbrev, &["pkg"], &NAMES);
        }
    }
}
