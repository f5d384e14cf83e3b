//! Where the bytes of an executable file are in memory, as it was linked.
//!
//! Must not: know where a process has mapped it.

use crate::binary::{BinaryError, Bytes, Elf};

/// Size of the pages that files are mapped in.
const PAGE_BYTES: u64 = 4096;

/// Addresses of user space end here (five-level page tables are only used by who asks for them).
/// Also what makes the number of a 64 KiB page fit 32 bits.
const MAX_ADDRESS: u64 = 1 << 47;

/// A loadable segment, as far as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Address it was linked for.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it is executable.
    pub executable: bool,
}

impl Part {
    /// The address behind its last.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }
}

/// The loadable segments of a file, in its order, at most 64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The segments.
    pub parts: Vec<Part>,
}

impl Layout {
    /// The segments of `elf`, cut to what is in the file and in user space.
    pub(super) fn new(elf: &Elf, bytes: Bytes<'_>) -> Result<Self, BinaryError> {
        let file = bytes.size()?;
        let part = |segment: &crate::binary::Segment| {
            let &crate::binary::Segment { offset, address, size, executable, .. } = segment;
            let size = size.min(file.checked_sub(offset)?).min(MAX_ADDRESS.checked_sub(address)?);
            (size > 0).then_some(Part { offset, address, size, executable })
        };
        Ok(Self { parts: elf.segments.iter().filter_map(part).collect() })
    }

    /// The executable segment that an address lies in.
    pub(super) fn code(&self, address: u64) -> Option<&Part> {
        self.parts
            .iter()
            .find(|part| part.executable && (part.address..part.end()).contains(&address))
    }

    /// What has to be added to an address as linked where the file's bytes from `offset` on are
    /// mapped executable at `start`, modulo 2^64; `None` if no segment has bytes there.
    ///
    /// Whole pages are mapped, so that a mapping may begin before its segment.
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let page = |offset: u64| offset / PAGE_BYTES * PAGE_BYTES;
        let holds = |part: &&Part| {
            page(part.offset) <= offset && offset < part.offset.saturating_add(part.size)
        };
        // Where two segments share a page of the file, the mapping is of the executable one.
        let mut parts = self.parts.iter();
        let part =
            parts.find(|part| part.executable && holds(part)).or(self.parts.iter().find(holds))?;
        let linked = part.address.wrapping_add(offset.wrapping_sub(part.offset));
        Some(start.wrapping_sub(linked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, address: u64, size: u64, executable: bool) -> Part {
        Part { offset, address, size, executable }
    }

    /// As lld links it: segments that begin inside pages, each at another distance from the file.
    fn layout() -> Layout {
        Layout {
            parts: vec![
                part(0, 0, 0x5f0, false),
                part(0x5f0, 0x15f0, 0x2100, true),
                part(0x26f0, 0x46f0, 0x800, false),
                part(0x3000, 0x9000, 0x1000, true),
            ],
        }
    }

    #[test]
    fn a_mapping_begins_at_the_page_of_its_segment() {
        let base = 0x7f00_0000_0000;
        // The whole of the second segment, and its second page alone, as mprotect splits it.
        assert_eq!(layout().bias(base + 0x1000, 0), Some(base));
        assert_eq!(layout().bias(base + 0x2000, 0x1000), Some(base));
        assert_eq!(layout().bias(base + 0x9000, 0x3000), Some(base));
    }

    #[test]
    fn what_no_segment_holds_has_no_bias() {
        assert_eq!(layout().bias(0x10_0000, 0x4000), None);
        assert_eq!(layout().bias(0x10_0000, u64::MAX), None);
        assert_eq!(Layout::default().bias(0x10_0000, 0), None);
    }

    #[test]
    fn a_program_with_a_fixed_address_has_none_to_add() {
        let layout = Layout { parts: vec![part(0x1000, 0x40_1000, 0x5000, true)] };
        assert_eq!(layout.bias(0x40_1000, 0x1000), Some(0));
        assert_eq!(layout.bias(0x40_0000, 0x1000), Some(0_u64.wrapping_sub(0x1000)), "lower");
    }
}
