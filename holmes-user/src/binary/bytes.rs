//! Bytes of a file or of memory, read in bounded pieces.
//!
//! Must not: map a file. Its owner can cut it short, and a mapped page that is gone kills the
//! reader.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

/// Why a binary, or a part of it, cannot be used.
#[derive(Debug, Error)]
pub enum BinaryError {
    /// Reading failed: its file system is gone, or the disk is bad.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// The bytes are not what they should be.
    #[error("the file is malformed: {0}")]
    Malformed(&'static str),
}

/// What is read: all readers of this stage take their input in this form.
#[derive(Clone, Copy, Debug)]
pub enum Bytes<'a> {
    /// An open file.
    File(&'a File),
    /// Memory.
    Memory(&'a [u8]),
}

impl Bytes<'_> {
    /// Reads exactly `len` bytes from `offset`. The caller bounds `len`.
    ///
    /// # Errors
    /// The file cannot be read, or ends before.
    pub fn read(self, offset: u64, len: usize) -> Result<Vec<u8>, BinaryError> {
        const SHORT: BinaryError = BinaryError::Malformed("it ends too early");
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => SHORT,
                    _ => BinaryError::Read(error),
                })?;
                Ok(bytes)
            }
            Self::Memory(memory) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let bytes = memory.get(start..start.saturating_add(len));
                Ok(bytes.ok_or(SHORT)?.to_vec())
            }
        }
    }

    /// Length in bytes, now: a file's owner may change it.
    ///
    /// # Errors
    /// It is no regular file, or cannot be asked.
    pub fn size(self) -> Result<u64, BinaryError> {
        match self {
            Self::File(file) => {
                let metadata = file.metadata().map_err(BinaryError::Read)?;
                if !metadata.is_file() {
                    return Err(BinaryError::Malformed("it is no regular file"));
                }
                Ok(metadata.len())
            }
            Self::Memory(memory) => Ok(memory.len() as u64),
        }
    }
}

/// The little-endian number at `at`; 0 behind the end.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number(bytes, at).map_or(0, u16::from_le_bytes)
}

/// The little-endian number at `at`; 0 behind the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The little-endian number at `at`; 0 behind the end.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at).map_or(0, u64::from_le_bytes)
}

fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_end_is_not_read() {
        let bytes = Bytes::Memory(&[1, 2, 3]);
        assert_eq!(bytes.read(1, 2).unwrap(), [2, 3]);
        for (offset, len) in [(1, 3), (4, 0), (u64::MAX, 1), (0, usize::MAX)] {
            assert!(matches!(bytes.read(offset, len), Err(BinaryError::Malformed(_))));
        }
        assert_eq!((u16_at(&[1, 2, 3], 1), u32_at(&[1, 2, 3], 0)), (0x302, 0));
        assert_eq!(u64_at(&[1; 8], usize::MAX), 0);
    }

    #[test]
    fn a_pipe_is_no_binary() {
        let pipe = File::open("/dev/null").unwrap();
        assert!(matches!(Bytes::File(&pipe).size(), Err(BinaryError::Malformed(_))));
    }
}
