//! The tap: writes the recorder's input to a file as it goes by, for `replay`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::error;

use crate::capture::recording::Writer;
use crate::capture::{Input, Start};
use crate::process::Attributed;

/// The largest recording, in bytes: hours of a busy host, and no disk full because somebody forgot
/// the flag.
const MAX_BYTES: u64 = 4 << 30;

/// A file that takes so many bytes and no more.
struct Bounded {
    file: File,
    room: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it has reached its bound of 4 GiB",
            ));
        }
        let written = self.file.write(bytes)?;
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An optional recording. One that fails ends; the recorder goes on.
pub(super) struct Tap {
    path: PathBuf,
    writer: Option<Writer<BufWriter<Bounded>>>,
    /// Inputs that the recording does not hold.
    pub(super) missed: u64,
}

impl Tap {
    /// Begins a recording, if there is a path.
    pub(super) fn open(path: Option<&Path>, start: &Start) -> anyhow::Result<Self> {
        let writer = path.map(|path| {
            let file = File::create(path).with_context(|| {
                format!(
                    "cannot create the recording {}: choose another --record-input",
                    path.display()
                )
            })?;
            Writer::new(BufWriter::new(Bounded { file, room: MAX_BYTES }), start)
                .with_context(|| format!("cannot write the recording {}", path.display()))
        });
        Ok(Self {
            path: path.map(Path::to_owned).unwrap_or_default(),
            writer: writer.transpose()?,
            missed: 0,
        })
    }

    pub(super) fn write(&mut self, input: &Input) {
        self.with(|writer| writer.write(input));
    }

    pub(super) fn observe(&mut self, attributed: &Attributed) {
        self.with(|writer| writer.observe(attributed));
    }

    /// Puts what is buffered on disk: a recorder that is killed leaves a readable recording.
    pub(super) fn flush(&mut self) {
        self.with(Writer::flush);
    }

    fn with(&mut self, write: impl FnOnce(&mut Writer<BufWriter<Bounded>>) -> io::Result<()>) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = write(writer) {
            error!("the recording {} ends here: {error}", self.path.display());
            self.missed += 1;
            self.writer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_file_refuses_what_does_not_fit() {
        let mut bounded = Bounded { file: tempfile::tempfile().unwrap(), room: 5 };
        assert_eq!(bounded.write(b"four").unwrap(), 4);
        let refused = bounded.write(b"to").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(bounded.write(b"!").unwrap(), 1, "what fits still does");
    }
}
