//! The executable mappings of a process, from the text of its `maps` file.
//!
//! Must not trust the text: a target chooses the names in it, which may be any bytes. A line that
//! makes no sense costs itself only, not the process.
//!
//! Format: proc_pid_maps(5).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;

use super::objects::FileId;

/// Bytes read of one `maps` file. 65,530 mappings (the kernel's default limit) of 250 bytes fit.
const MAX_MAPS_BYTES: u64 = 16 << 20;

/// Executable mappings kept of one process. Browsers and JVMs have about a thousand.
pub(super) const MAX_MAPPINGS: usize = 16_384;

/// The first address that a 32-bit process cannot have.
const BEHIND_32_BITS: u64 = 1 << 32;

/// What is behind a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A file with a path as the process sees it.
    File(FileId, OsString),
    /// The vDSO of a 64-bit process.
    Vdso,
    /// Neither.
    Anonymous,
}

/// One executable mapping.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) backing: Backing,
}

/// Reads the executable mappings, in the file's order, which is by address.
pub(super) fn read(source: impl Read) -> Vec<Line> {
    let lines = BufReader::new(source.take(MAX_MAPS_BYTES)).split(b'\n');
    // A read that fails half-way: the process has just ended, and what was read is true.
    lines.map_while(Result::ok).filter_map(|line| parse(&line)).take(MAX_MAPPINGS).collect()
}

/// `start-end perms offset major:minor inode   path`; `None` also for what is not executable.
fn parse(line: &[u8]) -> Option<Line> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let field = std::str::from_utf8(&rest[..end]).ok()?;
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(field)
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    let (start, end) = (hex(start)?, hex(end)?);
    let backing = match path {
        // One page of the kernel's that nothing has called for ten years.
        b"[vsyscall]" => return None,
        // The vDSO of a 32-bit process is another one than ours: its names would be wrong.
        b"[vdso]" if end >= BEHIND_32_BITS => Backing::Vdso,
        path if inode != 0 && path.starts_with(b"/") => {
            Backing::File(FileId { device, inode }, unescape(path))
        }
        _ => Backing::Anonymous,
    };
    Some(Line { start, end, offset, backing })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The kernel writes a line feed in a name as `\012`, and escapes nothing else.
fn unescape(path: &[u8]) -> OsString {
    const LINE_FEED: &[u8] = br"\012";
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(LINE_FEED) {
            bytes.push(b'\n');
            rest = behind;
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(inode: u64, path: &str) -> Backing {
        Backing::File(FileId { device: (8, 0x11), inode }, path.into())
    }

    fn line(start: u64, backing: Backing) -> Line {
        Line { start, end: start + 0x1000, offset: 0, backing }
    }

    #[test]
    fn executable_lines_by_what_is_behind_them() {
        let text = "\
            400000-401000 r-xp 00001000 08:11 42                         /usr/bin/a b (deleted)\n\
            401000-402000 rw-p 00000000 08:11 42                         /usr/bin/a\n\
            500000-501000 r-xp 00000000 00:00 0 \n\
            600000-601000 r-xp 00000000 00:00 0                          [vdso]\n\
            700000000000-700000001000 r-xp 00000000 00:00 0              [vdso]\n\
            800000000000-800000001000 r-xp 00000000 00:00 0              [anon:jit]\n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0      [vsyscall]\n";
        let mapped = [
            Line {
                start: 0x40_0000,
                end: 0x40_1000,
                offset: 0x1000,
                backing: file(42, "/usr/bin/a b (deleted)"),
            },
            line(0x50_0000, Backing::Anonymous),
            line(0x60_0000, Backing::Anonymous),
            line(0x7000_0000_0000, Backing::Vdso),
            line(0x8000_0000_0000, Backing::Anonymous),
        ];
        assert_eq!(read(text.as_bytes()), mapped);
    }

    #[test]
    fn a_strange_line_costs_itself_only() {
        let mut text =
            b"400000-401000 r-xp 00000000 08:11 1  /lib/\xff\xfe.so\nnonsense\n".to_vec();
        text.extend(b"500000-501000 r-xp 00000000 08:11 2  /a\\012b\n");
        text.extend(b"600000-601000 r-xp 000000");
        let mapped = read(&text[..]);
        assert_eq!(mapped.len(), 2, "{mapped:?}");
        assert_eq!(mapped[1], line(0x50_0000, file(2, "/a\nb")));
    }

    #[test]
    fn a_flood_of_mappings_is_bounded() {
        let text = "400000-401000 r-xp 00000000 00:00 0 \n".repeat(MAX_MAPPINGS + 1);
        assert_eq!(read(text.as_bytes()).len(), MAX_MAPPINGS);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            // Any answer is right; not panicking is the point.
            let _ = read(&bytes[..]);
        }
    }
}
