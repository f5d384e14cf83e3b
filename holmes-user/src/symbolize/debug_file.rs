//! Finds the separate debug file of an executable: by its build-id, or by the name and checksum in
//! its `.gnu_debuglink`.
//!
//! Format: GDB's manual, "Debugging Information in Separate Files": `.build-id/ab/cdef.debug`, and
//! a link section of a name, zeros up to a multiple of four, and the CRC-32 of the whole file.
//! A debug file's own link to a common one (`.gnu_debugaltlink`, made by dwz) is not followed: names
//! that only that one has are missing.
//!
//! Must not: follow a path that a target chose, or take a file of another build.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use super::stats::DebugSkipped;
use crate::binary::build_id;

/// A file whose checksum is computed, in bytes: it takes a second for each gigabyte. Files with a
/// build-id need none.
const MAX_CHECKED_BYTES: u64 = 512 << 20;
/// Bytes of a build-id's hexadecimal form; that of SHA-1 has 40.
const MAX_ID_DIGITS: usize = 128;

/// What an executable says about its debug file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DebugLink {
    name: String,
    crc: u32,
}

impl DebugLink {
    /// What a `.gnu_debuglink` says. Only a bare file name is accepted: a path would be the
    /// target's choice of a file to open.
    pub(super) fn of(section: &[u8]) -> Option<Self> {
        let end = section.iter().position(|&byte| byte == 0)?;
        let name = std::str::from_utf8(section.get(..end)?).ok()?;
        let mut components = Path::new(name).components();
        let bare = matches!(components.next(), Some(Component::Normal(first)) if first == name);
        if !bare || components.next().is_some() {
            return None;
        }
        let crc = section.get((end + 1).next_multiple_of(4)..)?.first_chunk().copied()?;
        Some(Self { name: name.to_owned(), crc: u32::from_le_bytes(crc) })
    }
}

/// Whether this is a build-id as it may become a file name or a part of a URL.
pub(super) fn is_build_id(text: &str) -> bool {
    (4..=MAX_ID_DIGITS).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    /// The executable's path, as its process sees it.
    pub(super) path: &'a str,
    /// Its build-id in hexadecimal; may be empty.
    pub(super) build_id: &'a str,
    /// What it says itself.
    pub(super) link: Option<&'a DebugLink>,
}

/// The debug file in these folders, open; `None` if there is none.
///
/// # Errors
/// There is one, and it cannot be used.
pub(super) fn find(
    folders: &[PathBuf],
    sought: Sought<'_>,
    deadline: Instant,
) -> Result<Option<File>, DebugSkipped> {
    let mut refused = None;
    for folder in folders {
        let by_id = by_build_id(folder, sought.build_id).into_iter();
        let by_link = sought.link.into_iter().flat_map(|link| by_link(folder, sought.path, link));
        for path in by_id.chain(by_link) {
            match open(&path)
                .and_then(|file| file.map(|file| check(file, sought, deadline)).transpose())
            {
                Ok(None) => {}
                Ok(Some(Ok(file))) => return Ok(Some(file)),
                Ok(Some(Err(cause))) => refused = Some(cause),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "a debug file is not used");
                    refused = Some(DebugSkipped::Unreadable);
                }
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

/// `.build-id/ab/cdef.debug` below a folder.
pub(super) fn by_build_id(folder: &Path, id: &str) -> Option<PathBuf> {
    let (first, rest) = is_build_id(id).then(|| id.split_at(2))?;
    Some(folder.join(format!(".build-id/{first}/{rest}.debug")))
}

/// `NAME` and `FOLDER-OF-THE-EXECUTABLE/NAME` below a folder.
fn by_link(folder: &Path, executable: &str, link: &DebugLink) -> Vec<PathBuf> {
    let mut candidates = vec![folder.join(&link.name)];
    let parent = Path::new(executable).parent().unwrap_or(Path::new(""));
    // The kernel writes no `..` there; should one come from elsewhere, it leads nowhere.
    let plain = |component: &Component<'_>| matches!(component, Component::Normal(_));
    if let Ok(below) = parent.strip_prefix("/")
        && below.components().all(|component| plain(&component))
    {
        candidates.push(folder.join(below).join(&link.name));
    }
    candidates
}

/// Opens a regular file; `None` where nothing is.
fn open(path: &Path) -> io::Result<Option<File>> {
    // Looked at first: opening a FIFO would block.
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => File::open(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the debug file belongs to the executable: the same build-id; where either has none, the
/// checksum of the link.
fn check(
    file: File,
    sought: Sought<'_>,
    deadline: Instant,
) -> io::Result<Result<File, DebugSkipped>> {
    let theirs = build_id(&file);
    if !sought.build_id.is_empty()
        && let Some(theirs) = theirs
    {
        let same = theirs == sought.build_id;
        return Ok(if same { Ok(file) } else { Err(DebugSkipped::Mismatched) });
    }
    let Some(link) = sought.link else { return Ok(Err(DebugSkipped::Mismatched)) };
    if file.metadata()?.len() > MAX_CHECKED_BYTES {
        return Ok(Err(DebugSkipped::TooLarge));
    }
    Ok(match checksum(&file, deadline)? {
        None => Err(DebugSkipped::OutOfTime),
        Some(sum) if sum == link.crc => Ok(file),
        Some(_) => Err(DebugSkipped::Mismatched),
    })
}

/// The CRC-32 of a file, as zlib computes it; `None` if the time does not suffice.
fn checksum(mut file: &File, deadline: Instant) -> io::Result<Option<u32>> {
    let mut sum = flate2::Crc::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        match file.read(&mut buffer)? {
            0 => return Ok(Some(sum.sum())),
            length => sum.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn link(name: &str, crc: u32) -> Vec<u8> {
        let mut section = name.as_bytes().to_vec();
        section.push(0);
        section.resize(section.len().next_multiple_of(4), 0);
        section.extend(crc.to_le_bytes());
        section
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn links_that_the_target_chose_are_not_followed() {
        for name in ["../../../etc/passwd", "/etc/passwd", "a/b", "..", ".", "", "./a", "a/"] {
            assert_eq!(DebugLink::of(&link(name, 1)), None, "{name}");
        }
        assert_eq!(DebugLink::of(b"a.debug\0"), None);
        assert_eq!(DebugLink::of(b"a.debug"), None);
        assert_eq!(DebugLink::of(&link("a.debug", 7)).unwrap().crc, 7);
    }

    #[test]
    fn only_build_ids_become_file_names() {
        for id in ["", "ab", "../x", "abcg", "ABCD", &"a".repeat(200)] {
            assert_eq!(by_build_id(Path::new("/d"), id), None, "{id}");
        }
        let path = by_build_id(Path::new("/d"), "abcdef").unwrap();
        assert_eq!(path, Path::new("/d/.build-id/ab/cdef.debug"));
    }

    #[test]
    fn a_linked_file_needs_the_right_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("opt/app");
        std::fs::create_dir_all(&below).unwrap();
        let path = below.join("a.debug");
        // The check value of CRC-32 in every catalogue of them.
        std::fs::write(&path, b"123456789").unwrap();
        let folders = [folder.path().to_owned()];
        for (crc, found) in [(0xcbf4_3926, Ok(true)), (1, Err(DebugSkipped::Mismatched))] {
            let link = DebugLink::of(&link("a.debug", crc));
            let sought = Sought { path: "/opt/app/a", build_id: "", link: link.as_ref() };
            let result = find(&folders, sought, soon()).map(|file| file.is_some());
            assert_eq!(result, found);
            let elsewhere = Sought { path: "/opt/b/../app/a", ..sought };
            assert!(find(&folders, elsewhere, soon()).unwrap().is_none());
        }
        let link = DebugLink::of(&link("a.debug", 0xcbf4_3926));
        let sought = Sought { path: "/opt/app/a", build_id: "", link: link.as_ref() };
        assert_eq!(find(&folders, sought, Instant::now()).err(), Some(DebugSkipped::OutOfTime));
    }
}
