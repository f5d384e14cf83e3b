//! Inputs become lines.
//!
//! Must not: write a line that the reader refuses.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::line::{CountersLine, Header, Line, ObservationLine};
use super::{MAX_DEFINITIONS, MAX_LINE_BYTES, NAMES_PER_LINE, VERSION};
use crate::capture::input::{Input, Start};
use crate::collect::CgroupId;
use crate::process::{Attributed, Cgroup, Image};
use crate::signals::SignalFrame;

/// Writes a recording. Give it a buffered writer: it writes one line at a time.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    line: Vec<u8>,
    images: FxHashSet<u32>,
    cgroups: FxHashMap<CgroupId, Arc<Cgroup>>,
    left_out: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// Those of the underlying writer.
    pub fn new(out: W, start: &Start) -> io::Result<Self> {
        let mut writer = Self {
            out,
            line: Vec::new(),
            images: FxHashSet::default(),
            cgroups: FxHashMap::default(),
            left_out: 0,
        };
        writer.put(&Header { holmes_recording: VERSION })?;
        writer.put(&Line::Start(start.into()))?;
        Ok(writer)
    }

    /// Writes one input.
    ///
    /// # Errors
    /// Those of the underlying writer; the recording ends with the last whole line then.
    pub fn write(&mut self, input: &Input) -> io::Result<()> {
        let line = match input {
            Input::Observation(attributed) => return self.observe(attributed),
            Input::Names(names) => {
                for names in names.chunks(NAMES_PER_LINE) {
                    self.put(&Line::Names(Cow::Borrowed(names)))?;
                }
                return Ok(());
            }
            Input::Signals(frame) => Line::Signals(finite(frame)),
            Input::Counters(counters) => Line::Counters(CountersLine {
                time: counters.time,
                totals: Cow::Borrowed(&counters.totals),
            }),
            &Input::Clock { monotonic, unix_ns } => Line::Clock { monotonic, unix_ns },
            Input::Memory(look) => Line::Memory(Cow::Borrowed(look)),
            Input::Goroutines(look) => Line::Goroutines(Cow::Borrowed(look)),
            Input::GoHeap(look) => Line::GoHeap(Cow::Borrowed(look)),
            Input::OomKill(kill) => Line::OomKill(Cow::Borrowed(kill)),
            Input::Trigger { time, target } => {
                Line::Trigger { time: *time, target: target.as_ref().map(Cow::Borrowed) }
            }
            // JSON has no number for it, and no rule looks at it.
            Input::Warning { what, .. } if !what.is_finite() => return Ok(()),
            Input::Warning { time, target, what } => {
                Line::Warning { time: *time, target: Cow::Borrowed(target), what: *what }
            }
            Input::Reload(settings) => Line::Reload((&**settings).into()),
            &Input::Tick(now) => Line::Tick(now),
            &Input::End(now) => Line::End(now),
        };
        self.put(&line)?;
        Ok(())
    }

    /// Writes an observation, before it is handed to the flight recorder by value.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn observe(&mut self, attributed: &Attributed) -> io::Result<()> {
        let image = match &attributed.image {
            Some(image) => self.define_image(image)?,
            None => None,
        };
        let cgroup = self.define_cgroup(&attributed.cgroup)?;
        self.put(&Line::Observation(ObservationLine {
            image,
            cgroup,
            record: Cow::Borrowed(&attributed.observation),
        }))?;
        Ok(())
    }

    /// The image's number, or none if it is too large to be written.
    fn define_image(&mut self, image: &Arc<Image>) -> io::Result<Option<u32>> {
        if self.images.contains(&image.number) {
            return Ok(Some(image.number));
        }
        self.make_room()?;
        let written = self.put(&Line::Image(Cow::Borrowed(&**image)))?;
        if written {
            self.images.insert(image.number);
        }
        Ok(written.then_some(image.number))
    }

    fn define_cgroup(&mut self, cgroup: &Arc<Cgroup>) -> io::Result<CgroupId> {
        let known = self.cgroups.get(&cgroup.id);
        if !known.is_some_and(|known| Arc::ptr_eq(known, cgroup) || known == cgroup) {
            self.put(&Line::Cgroup(Cow::Borrowed(&**cgroup)))?;
            self.cgroups.insert(cgroup.id, Arc::clone(cgroup));
        }
        Ok(cgroup.id)
    }

    /// Both definitions of one observation fit, or everything is defined anew.
    fn make_room(&mut self) -> io::Result<()> {
        if self.images.len().max(self.cgroups.len()) + 1 >= MAX_DEFINITIONS {
            self.put(&Line::Forget)?;
            self.images.clear();
            self.cgroups.clear();
        }
        Ok(())
    }

    /// Writes one line; says whether it was short enough.
    fn put(&mut self, line: &impl serde::Serialize) -> io::Result<bool> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        if self.line.len() > MAX_LINE_BYTES {
            self.left_out += 1;
            return Ok(false);
        }
        self.out.write_all(&self.line)?;
        Ok(true)
    }

    /// Lines left out because they were too long to be read again.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Flushes what is buffered.
    ///
    /// # Errors
    /// Those of the underlying writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Flushes and gives the underlying writer back.
    ///
    /// # Errors
    /// Those of the underlying writer.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The frame without the values that JSON has no number for. The recorder passes them over as well.
fn finite(frame: &SignalFrame) -> Cow<'_, SignalFrame> {
    let is_finite = frame.readings.iter().all(|reading| reading.value.is_finite());
    if is_finite && frame.host_cpu.is_finite() {
        return Cow::Borrowed(frame);
    }
    let mut frame = frame.clone();
    frame.readings.retain(|reading| reading.value.is_finite());
    if !frame.host_cpu.is_finite() {
        frame.host_cpu = 0.0;
    }
    Cow::Owned(frame)
}
