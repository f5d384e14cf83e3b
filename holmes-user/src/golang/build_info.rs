//! With which Go a program was built: the linker's note of it.
//!
//! Format: `debug/buildinfo`; since Go 1.18 the text lies in the file itself.
//!
//! Must not: guess. A program without the note is none of Go's.

use std::fmt;
use std::sync::Arc;

use super::own_layout::OwnLayout;
use crate::binary::{BinaryError, Bytes, Elf};

/// What the note begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Bytes of its head. The version follows, with its length before it.
const HEAD: usize = 32;
/// The note holds text, not pointers to it.
const INLINE: u8 = 2;
/// Bytes of a version that are read; the longest known have about 60.
const MAX_VERSION_BYTES: usize = 127;
/// Bytes searched at the start of writable data, where the linker puts the note, in a file that has no
/// sections any more.
const MAX_SCANNED: u64 = 64 << 10;
/// The note's alignment.
const ALIGNMENT: usize = 16;

/// A version of Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoVersion {
    /// The second number: 26 in `go1.26.8`.
    pub minor: u32,
    /// As the program has it, without control characters.
    pub text: String,
    /// Where things are, if the tables do not know it.
    pub(super) own: Option<Arc<OwnLayout>>,
}

impl fmt::Display for GoVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)?;
        // Who reads it should know that nobody has tried that version.
        if self.own.is_some() { out.write_str(", read by its debug information") } else { Ok(()) }
    }
}

impl GoVersion {
    /// Whether it is a release, or nearly: what is built of the source in between, as `devel go1.27-1a2b3c` or
    /// `go1.27-devel_1a2b3c`, may be as the version before, as this one, or as neither.
    pub(super) fn is_release(&self) -> bool {
        !self.text.contains("devel")
    }

    /// From the text: `go1.26.8`, `go1.22.5 X:rangefunc`, `devel go1.27-1a2b3c`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let behind = text.split_once("go1.")?.1;
        let digits = behind.split(|c: char| !c.is_ascii_digit()).next()?;
        let minor = digits.parse().ok()?;
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some(Self { minor, text, own: None })
    }

    /// Finds and reads the note; `None` if there is none.
    pub(super) fn find(bytes: Bytes<'_>, elf: &Elf) -> Result<Option<Self>, BinaryError> {
        let size = bytes.size()?;
        let places: Vec<(u64, u64)> = match elf.section(".go.buildinfo") {
            Some(section) => vec![(section.offset, section.size)],
            None => {
                let data = elf.segments.iter().filter(|segment| !segment.executable);
                data.map(|segment| (segment.offset, segment.size)).collect()
            }
        };
        for (offset, len) in places {
            let len = len.min(MAX_SCANNED).min(size.saturating_sub(offset));
            let part = bytes.read(offset, len as usize)?;
            let starts = (0..part.len()).step_by(ALIGNMENT);
            let found = starts.filter_map(|at| read(part.get(at..)?)).next();
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The version in a note.
fn read(note: &[u8]) -> Option<GoVersion> {
    let behind = note.strip_prefix(MAGIC)?;
    // The size of a pointer, then flags.
    if behind.get(1)? & INLINE == 0 {
        return None;
    }
    // A length of more than seven bits is no version's.
    let (&len, text) = note.get(HEAD..)?.split_first()?;
    let len = usize::from(len).min(MAX_VERSION_BYTES).min(text.len());
    GoVersion::parse(&String::from_utf8_lossy(text.get(..len)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_programs_have_them() {
        for (text, minor) in [
            ("go1.18", Some(18)),
            ("go1.26.8", Some(26)),
            ("go1.22.5 X:rangefunc", Some(22)),
            ("devel go1.27-1a2b3c Tue", Some(27)),
            ("go1.9", Some(9)),
            ("go2.0", None),
            ("go1.", None),
            ("go1.99999999999", None),
            ("", None),
        ] {
            assert_eq!(GoVersion::parse(text).map(|version| version.minor), minor, "{text}");
        }
        let is_release = |text| GoVersion::parse(text).unwrap().is_release();
        assert!(["go1.18", "go1.27rc1", "go1.26.8 X:nodwarf5"].into_iter().all(is_release));
        assert!(!["devel go1.27-1a2b3c Tue", "go1.27-devel_1a2b"].into_iter().any(is_release));
        assert_eq!(GoVersion::parse("go1.20\x1b[1m").unwrap().text, "go1.20 [1m");
    }

    #[test]
    fn a_note_and_pieces_of_one() {
        let mut note = MAGIC.to_vec();
        note.extend([8, INLINE]);
        note.resize(HEAD, 0);
        note.extend(b"\x08go1.19.5and more");
        assert_eq!(read(&note).unwrap().text, "go1.19.5");
        for len in 0..note.len() {
            // Any answer is right; not panicking is the point.
            let _ = read(&note[..len]);
        }
        note[15] = 0;
        assert_eq!(read(&note), None, "pointers, as before Go 1.18");
    }
}
