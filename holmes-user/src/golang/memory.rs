//! Memory of another process, many pieces at a time.
//!
//! Must not: stop the process, or write.

use std::io;

/// Pieces in one system call: the kernel's own limit (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

/// Pieces of one request that may be missing. Each costs a system call of its own; a few are gone
/// because their process goes on.
const MAX_MISSING: usize = 4096;

/// The first address that a process does not have, on processors with 47 bits of them. Go's runtime uses
/// no others on x86-64.
pub(super) const END: u64 = 1 << 47;

/// A piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its first address.
    pub(super) address: u64,
    /// In bytes.
    pub(super) len: usize,
}

/// Where pieces are read from. Tests have memory of their own.
pub(super) trait Memory {
    /// Reads pieces in their order and puts them behind each other. What is not mapped is filled with
    /// zeroes, and `false` in the answer.
    fn read(&self, pieces: &[Piece], into: &mut Vec<u8>) -> io::Result<Vec<bool>>;
}

/// The memory of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessMemory(pub(super) libc::pid_t);

impl Memory for ProcessMemory {
    fn read(&self, pieces: &[Piece], into: &mut Vec<u8>) -> io::Result<Vec<bool>> {
        into.clear();
        into.resize(pieces.iter().map(|piece| piece.len).sum(), 0);
        let mut are_there = vec![true; pieces.len()];
        let mut missing = 0;
        let (mut next, mut offset) = (0, 0);
        let mut remote = Vec::with_capacity(pieces.len().min(MAX_PIECES));
        while next < pieces.len() {
            let batch = pieces.iter().skip(next).take(MAX_PIECES);
            remote.clear();
            remote.extend(batch.clone().map(|piece| libc::iovec {
                iov_base: piece.address as *mut libc::c_void,
                iov_len: piece.len,
            }));
            let wanted: usize = batch.clone().map(|piece| piece.len).sum();
            let read = match into.get_mut(offset..offset + wanted) {
                Some(room) => self.call(room, &remote)?,
                None => 0,
            };
            // The pieces that came whole; the one behind them is not there.
            let mut left = read;
            for piece in batch {
                if piece.len > left {
                    break;
                }
                left -= piece.len;
                offset += piece.len;
                next += 1;
            }
            if read < wanted
                && let (Some(piece), Some(is_there)) = (pieces.get(next), are_there.get_mut(next))
            {
                *is_there = false;
                if let Some(torn) = into.get_mut(offset..offset + piece.len) {
                    torn.fill(0);
                }
                offset += piece.len;
                next += 1;
                missing += 1;
                if missing > MAX_MISSING {
                    return Err(io::Error::from_raw_os_error(libc::EFAULT));
                }
            }
        }
        Ok(are_there)
    }
}

impl ProcessMemory {
    /// Reads pieces until one is not there; how many bytes came.
    fn call(self, room: &mut [u8], remote: &[libc::iovec]) -> io::Result<usize> {
        let local = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        // SAFETY: the kernel writes at most `room.len()` bytes to `room`, which this function has to
        // itself; the addresses in `remote` are another process's, and the kernel checks them.
        let read = unsafe {
            libc::process_vm_readv(
                self.0,
                &raw const local,
                1,
                remote.as_ptr(),
                remote.len() as _,
                0,
            )
        };
        match usize::try_from(read) {
            Ok(read) => Ok(read),
            Err(_) => match io::Error::last_os_error() {
                // The very first piece is not there.
                error if error.raw_os_error() == Some(libc::EFAULT) => Ok(0),
                error => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_this_process_and_one_that_is_not_mapped() {
        let own = ProcessMemory(std::process::id() as libc::pid_t);
        let texts: Vec<String> = (0..3000).map(|number| format!("piece {number:5}")).collect();
        let mut pieces: Vec<Piece> = texts
            .iter()
            .map(|text| Piece { address: text.as_ptr() as u64, len: text.len() })
            .collect();
        for gone in [0, 5, 6, 1500, 2999] {
            pieces[gone].address = 0x10;
        }
        let mut bytes = Vec::new();
        let are_there = own.read(&pieces, &mut bytes).unwrap();
        for (number, (part, is_there)) in bytes.chunks(11).zip(&are_there).enumerate() {
            assert_eq!(*is_there, ![0, 5, 6, 1500, 2999].contains(&number));
            let expected = if *is_there { texts[number].as_bytes() } else { &[0; 11] };
            assert_eq!(part, expected, "{number}");
        }
        assert!(own.read(&[], &mut bytes).unwrap().is_empty());
        let nowhere = vec![Piece { address: 8, len: 1 }; MAX_MISSING + 2];
        assert!(own.read(&nowhere, &mut bytes).is_err(), "it has an end");
    }

    #[test]
    fn a_process_that_is_gone() {
        let error = ProcessMemory(i32::MAX).read(&[Piece { address: 8, len: 1 }], &mut Vec::new());
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
