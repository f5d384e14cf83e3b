//! The tap: writes the recorder's input to a file as it goes by, for `replay`.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::error;

use crate::capture::recording::Writer;
use crate::capture::{Input, Start};
use crate::process::Attributed;

/// An optional recording. One that fails ends; the recorder goes on.
pub(super) struct Tap {
    path: PathBuf,
    writer: Option<Writer<BufWriter<File>>>,
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
            Writer::new(BufWriter::new(file), start)
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

    fn with(&mut self, write: impl FnOnce(&mut Writer<BufWriter<File>>) -> io::Result<()>) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = write(writer) {
            error!("the recording {} ends here: {error}", self.path.display());
            self.missed += 1;
            self.writer = None;
        }
    }
}
