//! Lines, which anybody may have written, become inputs.
//!
//! Must not: trust a length, a number or an order. What a line may cost is bounded by its length,
//! and that is bounded.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::line::{Header, Line, ObservationLine};
use super::{MAX_DEFINITIONS, MAX_LINE_BYTES, VERSION};
use crate::capture::input::{Input, Start};
use crate::capture::names::Names;
use crate::collect::{CgroupId, Stack};
use crate::process::{Attributed, Cgroup, Image};

/// Frames of one stack, user or kernel. Eight times what the probes deliver today.
const MAX_STACK_FRAMES: usize = 4 * holmes_common::limits::MAX_USER_FRAMES;

/// Names that [`read_names`] collects: 200 MB of them at the most.
const MAX_NAMES: usize = 1 << 20;

/// Why a recording cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes did not come.
    #[error("line {line}: cannot read the recording: check the file and the disk")]
    Read {
        /// Counted from 1.
        line: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The first line is not a recording's.
    #[error(
        "line 1: this is not a recording of holmes-ebpf: give a file that `holmes-ebpf \
         --record-input FILE` wrote"
    )]
    NotARecording,
    /// Written by another version.
    #[error(
        "line 1: the recording has version {found} and this program reads version {VERSION}: \
         replay it with the holmes-ebpf that wrote it"
    )]
    Version {
        /// What the header says.
        found: u32,
    },
    /// Not JSON, or not a line of this format.
    #[error(
        "line {line}: not understood: the file is damaged from here on; what is before it was read"
    )]
    Syntax {
        /// Counted from 1.
        line: u64,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Understood, but cannot be true.
    #[error("line {line}: {problem}: the file is damaged from here on; what is before it was read")]
    Content {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a line that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Longer than any line that is written.
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The recording has no start.
    #[error("it should say how the recorder was started, and does not")]
    NoStart,
    /// A start where another input should be.
    #[error("the recorder starts a second time")]
    SecondStart,
    /// More definitions than the writer makes.
    #[error("it defines more than {MAX_DEFINITIONS} images or cgroups")]
    TooManyDefinitions,
    /// More names than can be kept.
    #[error("there are more than {MAX_NAMES} names up to here")]
    TooManyNames,
    /// An image of a number that is taken: numbers are given once, also to a changed image.
    #[error("it defines image {0}, which a line before it has defined")]
    SecondImage(u32),
    /// An image that no line defines.
    #[error("it refers to image {0}, which no line before it defines")]
    UnknownImage(u32),
    /// A cgroup that no line defines.
    #[error("it refers to cgroup {0}, which no line before it defines")]
    UnknownCgroup(u64),
    /// Mappings that overlap or are not in order.
    #[error("the mappings of image {0} overlap or are not in order")]
    Mappings(u32),
    /// A stack that no probe delivers.
    #[error("its stack has more than {MAX_STACK_FRAMES} frames")]
    Stack,
}

/// The lines of a file, with their numbers and a bounded length.
#[derive(Debug)]
struct Lines<R> {
    input: R,
    bytes: Vec<u8>,
    number: u64,
    truncated: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, bytes: Vec::new(), number: 0, truncated: false }
    }

    /// The next line's bytes; `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.bytes.clear();
        self.number += 1;
        let line = self.number;
        let limit = MAX_LINE_BYTES as u64 + 1;
        (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.bytes)
            .map_err(|source| ReadError::Read { line, source })?;
        if self.bytes.len() > MAX_LINE_BYTES {
            return Err(ReadError::Content { line, problem: Problem::TooLong });
        }
        Ok((!self.bytes.is_empty()).then_some(&self.bytes))
    }

    /// The next line; `None` at the end, also if the last line is cut off.
    fn parse(&mut self) -> Result<Option<Line<'static>>, ReadError> {
        if self.next()?.is_none() {
            return Ok(None);
        }
        match serde_json::from_slice(&self.bytes) {
            Ok(line) => Ok(Some(line)),
            Err(_) if self.bytes.last() != Some(&b'\n') => {
                self.truncated = true;
                Ok(None)
            }
            Err(source) => Err(ReadError::Syntax { line: self.number, source }),
        }
    }

    fn header(&mut self) -> Result<(), ReadError> {
        // Whatever is wrong with the first line, the file is none of ours.
        let line = match self.next() {
            Err(ReadError::Content { .. }) => return Err(ReadError::NotARecording),
            other => other?.unwrap_or_default(),
        };
        let header: Header = serde_json::from_slice(line).map_err(|_| ReadError::NotARecording)?;
        if header.holmes_recording == VERSION {
            Ok(())
        } else {
            Err(ReadError::Version { found: header.holmes_recording })
        }
    }

    fn content(&self, problem: Problem) -> ReadError {
        ReadError::Content { line: self.number, problem }
    }
}

/// Reads a recording: an iterator over its inputs. It ends at the end of the file or with the first
/// error; the inputs before it are good either way.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    start: Start,
    images: FxHashMap<u32, Arc<Image>>,
    cgroups: FxHashMap<CgroupId, Arc<Cgroup>>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header and the start.
    ///
    /// # Errors
    /// [`ReadError`], if the file is no recording of this version, or does not begin as one.
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut lines = Lines::new(input);
        lines.header()?;
        let Some(Line::Start(start)) = lines.parse()? else {
            return Err(lines.content(Problem::NoStart));
        };
        Ok(Self {
            lines,
            start: start.into(),
            images: FxHashMap::default(),
            cgroups: FxHashMap::default(),
            ended: false,
        })
    }

    /// What the recorder was started with.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Whether the file ended in the middle of a line. Known once the iterator has ended.
    pub fn is_truncated(&self) -> bool {
        self.lines.truncated
    }

    /// The number of the last line read, counted from 1.
    pub fn line(&self) -> u64 {
        self.lines.number
    }

    fn read(&mut self) -> Result<Option<Input>, ReadError> {
        while let Some(line) = self.lines.parse()? {
            if let Some(input) = self.take(line).map_err(|problem| self.lines.content(problem))? {
                return Ok(Some(input));
            }
        }
        Ok(None)
    }

    /// The input of a line; `None` for a definition.
    fn take(&mut self, line: Line<'static>) -> Result<Option<Input>, Problem> {
        Ok(Some(match line {
            Line::Start(_) => return Err(Problem::SecondStart),
            Line::Image(image) => {
                let image = image.into_owned();
                check_mappings(&image)?;
                if self.images.contains_key(&image.number) {
                    return Err(Problem::SecondImage(image.number));
                }
                define(&mut self.images, image.number, image)?;
                return Ok(None);
            }
            Line::Cgroup(cgroup) => {
                let cgroup = cgroup.into_owned();
                define(&mut self.cgroups, cgroup.id, cgroup)?;
                return Ok(None);
            }
            Line::Forget => {
                self.images.clear();
                self.cgroups.clear();
                return Ok(None);
            }
            Line::Observation(line) => Input::Observation(self.attribute(line)?),
            Line::Signals(frame) => Input::Signals(frame.into_owned()),
            Line::Counters(line) => Input::Counters(line.into()),
            Line::Clock { monotonic, unix_ns } => Input::Clock { monotonic, unix_ns },
            Line::Memory(look) => Input::Memory(look.into_owned()),
            Line::Goroutines(look) => {
                let images = look.processes.iter().filter_map(|it| it.owner.image.as_deref());
                images.clone().try_for_each(check_mappings)?;
                Input::Goroutines(look.into_owned())
            }
            Line::GoHeap(look) => {
                let images = look.processes.iter().filter_map(|it| it.owner.image.as_deref());
                images.clone().try_for_each(check_mappings)?;
                Input::GoHeap(look.into_owned())
            }
            Line::OomKill(kill) => Input::OomKill(kill.into_owned()),
            Line::Trigger { time, target } => {
                Input::Trigger { time, target: target.map(|target| target.into_owned()) }
            }
            Line::Warning { time, target, what } => {
                Input::Warning { time, target: target.into_owned(), what }
            }
            Line::Reload(settings) => Input::Reload(Box::new(settings.into())),
            Line::Names(names) => Input::Names(names.into_owned()),
            Line::Tick(now) => Input::Tick(now),
            Line::End(now) => Input::End(now),
        }))
    }

    fn attribute(&self, line: ObservationLine<'static>) -> Result<Attributed, Problem> {
        let observation = line.record.into_owned();
        let Stack { user, kernel } = &*observation.stack;
        if user.len().max(kernel.len()) > MAX_STACK_FRAMES {
            return Err(Problem::Stack);
        }
        let image = match line.image {
            Some(number) => {
                Some(self.images.get(&number).cloned().ok_or(Problem::UnknownImage(number))?)
            }
            None => None,
        };
        let cgroup = self.cgroups.get(&line.cgroup).cloned();
        let cgroup = cgroup.ok_or(Problem::UnknownCgroup(line.cgroup.0))?;
        Ok(Attributed { observation, image, cgroup })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Input, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn define<Key: std::hash::Hash + Eq, Value>(
    known: &mut FxHashMap<Key, Arc<Value>>,
    key: Key,
    value: Value,
) -> Result<(), Problem> {
    if known.len() >= MAX_DEFINITIONS && !known.contains_key(&key) {
        return Err(Problem::TooManyDefinitions);
    }
    known.insert(key, Arc::new(value));
    Ok(())
}

/// [`Image::find`] relies on the order.
fn check_mappings(image: &Image) -> Result<(), Problem> {
    let mut behind = 0;
    for mapping in &image.mappings {
        if mapping.start < behind || mapping.end <= mapping.start {
            return Err(Problem::Mappings(image.number));
        }
        behind = mapping.end;
    }
    Ok(())
}

/// All names of a recording, in order. Names are found after their incident is cut, so a replay
/// that wants them reads the file twice: first this, then the inputs. Lines that are not names are
/// passed over, whatever they hold.
///
/// # Errors
/// [`ReadError`], if the file is no recording of this version, or a line of names is damaged.
pub fn read_names(input: impl BufRead) -> Result<Names, ReadError> {
    let mut lines = Lines::new(input);
    lines.header()?;
    let mut names = Names::new();
    loop {
        let Some(line) = lines.next()? else { return Ok(names) };
        if !line.starts_with(br#"{"names":"#) {
            continue;
        }
        let is_last = !line.ends_with(b"\n");
        match serde_json::from_slice(line) {
            Ok(Line::Names(more)) => names.extend(more.into_owned()),
            Ok(_) => {}
            Err(_) if is_last => return Ok(names),
            Err(source) => return Err(ReadError::Syntax { line: lines.number, source }),
        }
        if names.len() > MAX_NAMES {
            return Err(lines.content(Problem::TooManyNames));
        }
    }
}
