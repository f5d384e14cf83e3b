//! The memory of sampled stacks, to a file: a line of JSON for each sample, so that another unwinder
//! can be given what the probes had.
//!
//! The file holds whatever a process has on its stacks: it is for its owner alone.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tracing::error;

use crate::collect::Observation;

/// The largest file, in bytes: minutes at a high frequency, and no full disk.
const MAX_BYTES: u64 = 4 << 30;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    pid: u32,
    /// How the probes' own walk ended.
    end: &'static str,
    stopped_at: u64,
    flags: u32,
    /// What it found, leaf first.
    frames: &'a [u64],
    ip: u64,
    sp: u64,
    bp: u64,
    /// In hexadecimal, upwards from the stack pointer.
    memory: String,
}

/// The file, if there is to be one.
pub(super) struct Copies {
    file: Option<BufWriter<File>>,
    room: u64,
}

impl Copies {
    /// Creates the file.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.map(|path| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW);
            let open = options.open(path).and_then(|file| {
                // It may have been there already.
                file.set_permissions(Permissions::from_mode(0o600))?;
                Ok(BufWriter::new(file))
            });
            open.with_context(|| {
                format!("cannot create {}: choose another --stack-copies", path.display())
            })
        });
        Ok(Self { file: file.transpose()?, room: MAX_BYTES })
    }

    /// Writes the copy that came with a sample, if one did. A file that fails ends.
    pub(super) fn write(&mut self, observation: &Observation) {
        let (Some(file), Some(copy)) = (&mut self.file, &observation.walk.copy) else { return };
        let line = Line {
            pid: observation.tgid,
            end: observation.walk.end.name(),
            stopped_at: observation.walk.stopped_at,
            flags: observation.flags,
            frames: &observation.stack.user,
            ip: copy.ip,
            sp: copy.sp,
            bp: copy.bp,
            memory: hexadecimal(&copy.bytes),
        };
        let written =
            serde_json::to_string(&line).map_err(std::io::Error::other).and_then(|text| {
                self.room = self.room.checked_sub(text.len() as u64).ok_or_else(|| {
                    std::io::Error::new(std::io::ErrorKind::FileTooLarge, "its bound is 4 GiB")
                })?;
                writeln!(file, "{text}")
            });
        if let Err(error) = written {
            error!("no more copies of stacks are written: {error}");
            self.file = None;
        }
    }
}

/// Two digits for each byte. By hand, because formatting byte after byte takes so long that the loop
/// which drains the probes' records falls behind.
fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut text = String::with_capacity(2 * bytes.len());
    for &byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

impl Drop for Copies {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            error!("the last copies of stacks are not written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn a_byte_is_two_digits_the_high_one_first() {
        assert_eq!(hexadecimal(&[0x00, 0x0f, 0xf0, 0xa5]), "000ff0a5");
    }
}
