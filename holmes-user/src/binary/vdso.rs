//! The recorder's own copy of the vDSO: the kernel maps the same one into every 64-bit process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

/// The vDSO has two or three pages.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum VdsoError {
    /// The recorder's own memory cannot be read.
    #[error("cannot read the recorder's own vDSO")]
    Read(#[source] io::Error),
    /// The kernel mapped none.
    #[error("the recorder has no vDSO (the kernel runs with vdso=0)")]
    Missing,
}

/// The bytes of the vDSO that the kernel mapped into this process.
///
/// # Errors
/// There is none, or the recorder's memory cannot be read.
pub fn vdso() -> Result<Vec<u8>, VdsoError> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(VdsoError::Read)?;
    let (start, end) = maps.lines().find_map(range).ok_or(VdsoError::Missing)?;
    let size = end.checked_sub(start).filter(|&size| size <= MAX_BYTES);
    let mut bytes = vec![0; size.ok_or(VdsoError::Missing)? as usize];
    let memory = File::open("/proc/self/mem").map_err(VdsoError::Read)?;
    memory.read_exact_at(&mut bytes, start).map_err(VdsoError::Read)?;
    Ok(bytes)
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (range, _) = line.strip_suffix("[vdso]")?.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_elf_file() {
        assert!(vdso().unwrap().starts_with(b"\x7fELF"));
    }

    #[test]
    fn a_line_of_maps_is_read() {
        let line = "7ffd1c5f2000-7ffd1c5f4000 r-xp 00000000 00:00 0          [vdso]";
        assert_eq!(range(line), Some((0x7ffd_1c5f_2000, 0x7ffd_1c5f_4000)));
        assert_eq!(range("7ffd1c5f2000-7ffd1c5f4000 r-xp 00000000 00:00 0  [stack]"), None);
    }
}
