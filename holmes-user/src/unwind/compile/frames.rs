//! The frame descriptions of a file: which function each is for, and what it says.
//!
//! Format: DWARF 5, section 6.4; Linux Standard Base Core, chapter 10.6 (`.eh_frame`).
//!
//! Must not: trust that they are in order, few, short or consistent.

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, EndianSlice, LittleEndian, RegisterRule,
    UnwindContext, UnwindContextStorage, UnwindOffset, UnwindSection, UnwindTableRow,
};
use holmes_common::unwind::{CfaKind, Row};
use rustc_hash::FxHashMap;

use super::rules::{Machine, row};
use super::{Layout, MAX_SECTION_BYTES, NoTable};
use crate::binary::{Bytes, Elf, u32_at};

/// Frames of one file: 24 bytes each. libLLVM has 200,000.
const MAX_FRAMES: usize = 2_000_000;

/// Shared descriptions kept parsed. A file has a few for each of its objects' languages.
const MAX_SHARED: usize = 1024;

/// Registers with a rule at one address: x86-64 saves 16 at most, and ten of the vector ones in
/// functions of the Windows convention.
const MAX_RULES: usize = 48;

/// States remembered at one address; compilers nest one or two.
const MAX_STATES: usize = 8;

/// `SHF_COMPRESSED`.
const COMPRESSED: u64 = 0x800;

pub(super) type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Room of the interpreter.
pub(super) struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(gimli::Register, RegisterRule<usize>); MAX_RULES];
    type Stack = Box<[UnwindTableRow<usize, Self>; MAX_STATES]>;
}

/// The bytes of a section of frames.
#[derive(Default)]
pub(super) struct Section {
    pub(super) data: Vec<u8>,
    pub(super) is_debug_frame: bool,
    /// What pointers in it are relative to.
    pub(super) bases: BaseAddresses,
}

/// Reads `.eh_frame`, else `.debug_frame`.
pub(super) fn section(bytes: Bytes<'_>, elf: &Elf) -> Result<Section, NoTable> {
    let eh_frame = elf.section(".eh_frame").filter(|section| section.size > 0);
    let plain = |section: &&crate::binary::Section| section.flags & COMPRESSED == 0;
    let debug_frame = || elf.section(".debug_frame").filter(plain);
    let section = eh_frame.or_else(debug_frame).ok_or(NoTable::NoFrames)?;
    if section.size > MAX_SECTION_BYTES {
        return Err(NoTable::TooLarge("the section is too long"));
    }
    let address = |name: &str| elf.section(name).map_or(0, |section| section.address);
    let bases = BaseAddresses::default()
        .set_eh_frame(section.address)
        .set_eh_frame_hdr(address(".eh_frame_hdr"))
        .set_text(address(".text"))
        .set_got(address(".got"));
    let data = bytes.read(section.offset, section.size as usize)?;
    Ok(Section { data, is_debug_frame: eh_frame.is_none(), bases })
}

/// A function, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// First address, as linked.
    pub(super) begin: u64,
    /// The address behind the last.
    pub(super) end: u64,
    pub(super) kind: Kind,
}

/// What tells how to leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The description at this offset in the section.
    Frame {
        /// In bytes.
        offset: u32,
    },
    /// It is where signal handlers return to.
    Signal,
    /// This holds everywhere in it.
    Rule(Row),
}

impl Entry {
    /// By address, the longer one first.
    pub(super) fn order(&self) -> (u64, std::cmp::Reverse<u64>) {
        (self.begin, std::cmp::Reverse(self.end))
    }
}

/// All frames of a section.
pub(super) struct Frames<'a, S: UnwindSection<Reader<'a>>> {
    section: S,
    data: &'a [u8],
    bases: &'a BaseAddresses,
    machine: Machine,
    /// By address, the longer one first.
    pub(super) entries: Vec<Entry>,
    shared: FxHashMap<usize, CommonInformationEntry<Reader<'a>>>,
    context: UnwindContext<usize, Storage>,
    /// Bytes that may still be evaluated.
    work: u64,
}

impl<'a, S: UnwindSection<Reader<'a>>> Frames<'a, S> {
    /// Finds the frames of code that is in the file. `work` is how many bytes of it may be evaluated,
    /// this and all rows together.
    pub(super) fn index(
        section: S,
        data: &'a [u8],
        bases: &'a BaseAddresses,
        machine: Machine,
        layout: &Layout,
        work: u64,
    ) -> Result<Self, NoTable> {
        let mut frames = Self {
            section,
            data,
            bases,
            machine,
            entries: Vec::new(),
            shared: FxHashMap::default(),
            context: UnwindContext::new_in(),
            work,
        };
        let mut entries = frames.section.clone().entries(bases);
        // What comes before a broken entry is good; there is no telling where the next one begins.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let offset = partial.offset();
            let Some(frame) = frames.frame(offset)? else { continue };
            let (begin, end) = (frame.initial_address(), frame.end_address());
            // Linkers leave frames of functions they have dropped at address 0.
            let Some(part) = layout.code(begin) else { continue };
            let end = end.min(part.end());
            if begin == 0 || begin >= end {
                continue;
            }
            if frames.entries.len() >= MAX_FRAMES {
                return Err(NoTable::TooLarge("too many frames"));
            }
            let kind = if frame.is_signal_trampoline() {
                Kind::Signal
            } else {
                Kind::Frame { offset: offset as u32 }
            };
            frames.entries.push(Entry { begin, end, kind });
        }
        frames.entries.sort_by_key(Entry::order);
        Ok(frames)
    }

    /// The frame at an offset; `None` if it makes no sense.
    fn frame(
        &mut self,
        offset: usize,
    ) -> Result<Option<gimli::FrameDescriptionEntry<Reader<'a>>>, NoTable> {
        let Ok(partial) = self.section.partial_fde_from_offset(self.bases, offset.into()) else {
            return Ok(None);
        };
        let shared_at: usize = UnwindOffset::into(partial.cie_offset());
        if !self.shared.contains_key(&shared_at) {
            // Another frame may point to any byte: each is paid for.
            let rest = self.data.get(shared_at..).unwrap_or_default();
            self.pay(rest.len().min(u32_at(rest, 0) as usize))?;
            if self.shared.len() >= MAX_SHARED {
                self.shared.clear();
            }
            let Ok(shared) = self.section.cie_from_offset(self.bases, shared_at.into()) else {
                return Ok(None);
            };
            self.shared.insert(shared_at, shared);
        }
        let shared = &self.shared;
        let frame = partial.parse(|_, _, _| {
            shared.get(&shared_at).cloned().ok_or(gimli::Error::OffsetOutOfBounds(0))
        });
        Ok(frame.ok())
    }

    /// Hands on the rules of the frame at an offset with their first addresses, which never
    /// decrease. From where it makes no sense on there is [`CfaKind::Unsupported`].
    pub(super) fn rows(
        &mut self,
        offset: u32,
        mut push: impl FnMut(u64, Row) -> Result<(), NoTable>,
    ) -> Result<(), NoTable> {
        let unsupported = Row { cfa_kind: CfaKind::Unsupported as u8, ..Row::default() };
        let Some(frame) = self.frame(offset as usize)? else { return Ok(()) };
        self.pay(frame.entry_len().saturating_add(frame.cie().entry_len()))?;
        let mut at = frame.initial_address();
        let Ok(mut table) = frame.rows(&self.section, self.bases, &mut self.context) else {
            return push(at, unsupported);
        };
        loop {
            match table.next_row() {
                Ok(Some(next)) => {
                    at = at.max(next.start_address());
                    push(at, row(self.machine, &self.section, next))?;
                }
                Ok(None) => return Ok(()),
                Err(_) => return push(at, unsupported),
            }
        }
    }

    fn pay(&mut self, bytes: usize) -> Result<(), NoTable> {
        let left = self.work.checked_sub(bytes as u64);
        self.work = left.ok_or(NoTable::TooLarge("too much to evaluate"))?;
        Ok(())
    }
}
