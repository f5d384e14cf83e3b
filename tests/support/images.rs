//! The executables that a process has mapped, with their unwind information: what a second unwinder
//! needs to know of a process.
//!
//! Must not: share code with the recorder's own reading of maps and files, which it checks.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Context;
use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, UnwindSection};
use object::elf::PF_X;
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};

/// Files that are part of no program: the kernel's page of system calls is no ELF file, and stacks
/// hold no code that was linked.
const VDSO: &str = "[vdso]";

/// An executable mapping of a file, or of the vDSO.
pub struct Image {
    /// The path in `maps`.
    pub name: String,
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// What is added to the address it was linked for, modulo 2^64.
    pub bias: u64,
    sections: Arc<Sections>,
}

/// The unwind information of a file.
pub struct Sections {
    /// `.eh_frame`; empty without one.
    pub eh_frame: Arc<[u8]>,
    /// Its address as linked.
    pub eh_frame_at: u64,
    /// `.eh_frame_hdr`; empty without one.
    pub eh_frame_hdr: Arc<[u8]>,
    /// Its address as linked.
    pub eh_frame_hdr_at: u64,
    /// Segments with code: offset in the file, bytes in the file, address as linked.
    code: Vec<[u64; 3]>,
}

/// A reader of a section.
pub type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A function's entry.
pub type Fde<'a> = gimli::FrameDescriptionEntry<Slice<'a>>;

impl Sections {
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let file = object::File::parse(bytes).context("no ELF file")?;
        let section = |name: &str| -> anyhow::Result<(Arc<[u8]>, u64)> {
            let Some(section) = file.section_by_name(name) else { return Ok((Arc::from([]), 0)) };
            Ok((Arc::from(section.uncompressed_data()?.as_ref()), section.address()))
        };
        let (eh_frame, eh_frame_at) = section(".eh_frame")?;
        let (eh_frame_hdr, eh_frame_hdr_at) = section(".eh_frame_hdr")?;
        let code = file
            .segments()
            .filter(|segment| {
                matches!(segment.flags(), SegmentFlags::Elf { p_flags } if p_flags & PF_X != 0)
            })
            .map(|segment| {
                let (offset, length) = segment.file_range();
                [offset, length, segment.address()]
            })
            .collect();
        Ok(Self { eh_frame, eh_frame_at, eh_frame_hdr, eh_frame_hdr_at, code })
    }

    /// What is added to addresses as linked, where the file's bytes from `offset` on are at `start`.
    fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        self.code.iter().find_map(|&[from, length, address]| {
            // The kernel maps whole pages, so a mapping begins before its segment does.
            let inside = offset < from + length && from < offset + 4096
                || offset.wrapping_sub(from) < length;
            inside.then(|| start.wrapping_sub(address.wrapping_add(offset).wrapping_sub(from)))
        })
    }

    /// The section, ready to be read.
    pub fn frames(&self) -> EhFrame<Slice<'_>> {
        let mut frames = EhFrame::new(&self.eh_frame, LittleEndian);
        frames.set_address_size(8);
        frames
    }

    /// Where the sections are, as linked.
    pub fn bases(&self) -> BaseAddresses {
        BaseAddresses::default()
            .set_eh_frame(self.eh_frame_at)
            .set_eh_frame_hdr(self.eh_frame_hdr_at)
    }

    /// The entry of the function at `address`, as linked.
    pub fn fde(&self, address: u64) -> Option<Fde<'_>> {
        let (frames, bases) = (self.frames(), self.bases());
        let header = EhFrameHdr::new(&self.eh_frame_hdr, LittleEndian).parse(&bases, 8).ok();
        match header.as_ref().and_then(gimli::ParsedEhFrameHdr::table) {
            Some(table) => {
                table.fde_for_address(&frames, &bases, address, EhFrame::cie_from_offset).ok()
            }
            None => frames.fde_for_address(&bases, address, EhFrame::cie_from_offset).ok(),
        }
    }
}

impl Image {
    /// The unwind information.
    pub fn sections(&self) -> &Arc<Sections> {
        &self.sections
    }
}

/// What process `pid` has mapped now and can execute. What has no unwind information is among it.
///
/// # Errors
/// The process is gone, or a file it runs cannot be read.
pub fn of(pid: u32) -> anyhow::Result<Vec<Image>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("reading the maps")?;
    let mut images = Vec::<Image>::new();
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ').map(str::trim);
        let [range, rights, offset, _, _, name] =
            std::array::from_fn(|_| fields.next().unwrap_or(""));
        if !rights.contains('x') || !(name.starts_with('/') || name == VDSO) {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range without an end")?;
        let hex = |text| u64::from_str_radix(text, 16).context("an address");
        let (start, end, offset) = (hex(start)?, hex(end)?, hex(offset)?);
        let known = images.iter().find(|image| image.name == name);
        let sections = match known {
            Some(image) => Arc::clone(&image.sections),
            None => Arc::new(
                Sections::parse(&contents(pid, name, start, end)?)
                    .with_context(|| format!("the file {name}"))?,
            ),
        };
        let bias =
            sections.bias(start, offset).with_context(|| format!("no segment for {line}"))?;
        images.push(Image { name: name.to_owned(), start, end, bias, sections });
    }
    Ok(images)
}

/// The file's bytes, even of one that was deleted; the vDSO's from the process's memory.
fn contents(pid: u32, name: &str, start: u64, end: u64) -> anyhow::Result<Vec<u8>> {
    if name == VDSO {
        let mut bytes = vec![0; usize::try_from(end - start)?];
        let memory = fs::File::open(format!("/proc/{pid}/mem")).context("opening the memory")?;
        memory.read_exact_at(&mut bytes, start).context("reading the vDSO")?;
        return Ok(bytes);
    }
    // The names of these are the ranges in `maps`, without their leading zeros.
    fs::read(format!("/proc/{pid}/map_files/{start:x}-{end:x}"))
        .with_context(|| format!("reading {name}"))
}
