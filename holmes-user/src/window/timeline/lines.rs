//! Lines of the timeline: for each thread what it did at any moment, as far as that is known.
//!
//! Must not: guess. Between two waits a thread ran if the second one's record is the next that was made
//! of the thread and says that none was left out; otherwise nobody knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::cut::{Cut, CutSample, Detail, Owner, ProfileKind, Values};
use super::super::ring::Window;
use super::super::sites::Site;
use super::{Done, Event};
use crate::collect::{Nanos, WaitCause};

/// What threads did in a span of time, not yet named.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// First moment.
    pub from: Nanos,
    /// The moment behind the last.
    pub to: Nanos,
    /// From here on nothing has left the window, or fallen out of the ring.
    pub whole_from: Nanos,
    /// The owners and stacks that the lines refer to by index: samples without values, so that they are
    /// named as those of profiles are.
    pub places: Cut,
    /// By process and thread, in a fixed order.
    pub threads: Vec<ThreadLine>,
}

/// What one thread did.
#[derive(Clone, Debug)]
pub struct ThreadLine {
    /// Its process and its name, as last seen.
    pub owner: Arc<Owner>,
    /// Its id, in the initial pid namespace. A later thread may have the same one, and a line of its own.
    pub tid: u32,
    /// In order of time, none empty, each from where the last one ends: from when the thread was first
    /// seen to when it ended, or to the end of the timeline.
    pub spans: Vec<Span>,
    /// In order of time.
    pub samples: Vec<RunSample>,
}

/// A part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First moment.
    pub from: Nanos,
    /// The moment behind the last.
    pub to: Nanos,
    /// What the thread did.
    pub state: State,
}

/// What a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It had a CPU.
    Running {
        /// That one.
        cpu: u32,
    },
    /// It waited.
    Waiting(WaitSpan),
    /// Nobody knows.
    Unknown(Doubt),
}

/// A wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitSpan {
    /// Where: an index of [`Timeline::places`].
    pub place: usize,
    /// What for.
    pub cause: WaitCause,
    /// The address of the futex; 0 if it is none.
    pub lock: u64,
    /// The thread that holds it; 0 if nobody knows.
    pub holder: u32,
    /// How many waits it stands for: the others are not drawn.
    pub waits: u64,
    /// Whether it goes on beyond the end of the timeline.
    pub goes_on: bool,
}

/// Why nobody knows what a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was not seen to wait yet.
    NotSeenYet,
    /// It waited so often that waits were left out.
    LeftOut,
    /// Records of its waits were lost.
    Lost,
    /// It was not seen to wait since.
    NotSeenSince,
}

impl Doubt {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotSeenYet => "not seen to wait yet",
            Self::LeftOut => "it waits so often that waits were left out",
            Self::Lost => "records of waits were lost",
            Self::NotSeenSince => "not seen to wait since",
        }
    }
}

/// A CPU sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSample {
    /// When.
    pub time: Nanos,
    /// On which CPU.
    pub cpu: u32,
    /// Where: an index of [`Timeline::places`].
    pub place: usize,
}

impl Window {
    /// What the threads of the owners that `wanted` names did in `from..to`; `None` if the window was told
    /// to keep nothing for it. A wait that goes on is drawn up to `to`.
    pub fn timeline(
        &self,
        wanted: &dyn Fn(&Owner) -> bool,
        from: Nanos,
        to: Nanos,
    ) -> Option<Timeline> {
        if !self.timeline.is_on() {
            return None;
        }
        let mut seen: BTreeMap<u32, Vec<Piece<'_>>> = BTreeMap::new();
        for event in &self.timeline.events {
            let piece = Piece::of(event);
            if piece.site.is_none_or(|site| wanted(site.owner.value())) {
                seen.entry(event.tid).or_default().push(piece);
            }
        }
        for (tid, waiting) in self.waits.by_thread() {
            if wanted(waiting.site().owner.value()) {
                let wait = Wait {
                    number: waiting.number(),
                    follows_others: waiting.follows_others(),
                    cause: waiting.cause(),
                    lock: waiting.lock(),
                    holder: waiting.holder(),
                    waits: waiting.waits().unsigned_abs(),
                    is_over: false,
                };
                let site = Some(waiting.site());
                let (from, cpu) = (waiting.since(), 0);
                let to = Nanos(u64::MAX);
                let wait = Some(wait);
                let piece = Piece { from, to, cpu, site, wait, last_wait: None };
                seen.entry(tid).or_default().push(piece);
            }
        }
        let mut places = Places::default();
        let mut lines = Vec::new();
        for (tid, mut pieces) in seen {
            pieces.sort_by_key(|piece| (piece.from, piece.to));
            for life in lives(&pieces) {
                lines.extend(Line { from, to, places: &mut places }.of(tid, life));
            }
        }
        lines.sort_by_key(|line| (line.owner.tgid, line.tid));
        let whole_from = self.timeline.whole_from.max(self.reach()).clamp(from, to.max(from));
        let places = Cut { kind: ProfileKind::Cpu, from, to, samples: places.list };
        Some(Timeline { from, to, whole_from, places, threads: lines })
    }
}

/// Something that a thread did, over or not.
#[derive(Clone, Copy)]
struct Piece<'a> {
    from: Nanos,
    to: Nanos,
    cpu: u32,
    /// None if this is the thread's end.
    site: Option<&'a Site>,
    /// None if this is a sample, or the thread's end.
    wait: Option<Wait>,
    /// Of the thread's end: the number of its last wait, if it ran since.
    last_wait: Option<u8>,
}

#[derive(Clone, Copy)]
struct Wait {
    number: u8,
    follows_others: bool,
    cause: WaitCause,
    lock: u64,
    holder: u32,
    waits: u64,
    is_over: bool,
}

impl<'a> Piece<'a> {
    fn of(event: &'a Event) -> Self {
        let (from, wait, last_wait) = match &event.what {
            Done::Waited(waited) => {
                let wait = Wait {
                    number: waited.number,
                    follows_others: waited.follows_others,
                    cause: waited.cause,
                    lock: waited.lock,
                    holder: 0,
                    waits: waited.waits.into(),
                    is_over: true,
                };
                (waited.since, Some(wait), None)
            }
            Done::Ran(_) => (event.time, None, None),
            Done::Ended { last_wait } => (event.time, None, *last_wait),
        };
        Self { from, to: event.time, cpu: event.cpu, site: event.site(), wait, last_wait }
    }
}

/// The threads that had one id, one after the other: each up to its end, or to what another process did.
fn lives<'a, 'b>(pieces: &'b [Piece<'a>]) -> impl Iterator<Item = &'b [Piece<'a>]> {
    pieces.chunk_by(|left, right| {
        let process = |piece: &Piece<'_>| piece.site.map(|site| site.owner.value().tgid);
        left.site.is_some() && (right.site.is_none() || process(left) == process(right))
    })
}

/// Makes one thread's line.
struct Line<'p> {
    from: Nanos,
    to: Nanos,
    places: &'p mut Places,
}

impl Line<'_> {
    /// `None` if nothing of it is in the timeline.
    fn of(mut self, tid: u32, life: &[Piece<'_>]) -> Option<ThreadLine> {
        let last = life.iter().rev().find_map(|piece| piece.site)?;
        let mut line =
            ThreadLine { owner: last.owner.share(), tid, spans: Vec::new(), samples: Vec::new() };
        let end = life.last().filter(|piece| piece.site.is_none());
        let mut reached = life.first()?.from;
        // The last wait's number, and the CPU that it ended on.
        let mut before: Option<(u8, u32)> = None;
        for piece in life {
            let (Some(site), Some(wait)) = (piece.site, piece.wait) else {
                self.add_sample(piece, &mut line);
                continue;
            };
            let between = match before {
                None => State::Unknown(Doubt::NotSeenYet),
                Some((number, _)) if number.wrapping_add(1) != wait.number => {
                    State::Unknown(Doubt::Lost)
                }
                Some(_) if wait.follows_others => State::Unknown(Doubt::LeftOut),
                Some((_, cpu)) => State::Running { cpu },
            };
            self.add_span(&mut line, reached, piece.from, between);
            let waiting = WaitSpan {
                place: 0,
                cause: wait.cause,
                lock: wait.lock,
                holder: wait.holder,
                waits: wait.waits,
                goes_on: !wait.is_over || piece.to > self.to,
            };
            let from = piece.from.max(reached);
            if self.is_shown(from, piece.to) {
                let place = self.places.index(site, true);
                let state = State::Waiting(WaitSpan { place, ..waiting });
                self.add_span(&mut line, from, piece.to, state);
            }
            // Records may come in any order: an end before its beginning ends nothing earlier.
            reached = reached.max(piece.from).max(piece.to);
            before = Some((wait.number, piece.cpu));
        }
        let last_wait = end.and_then(|end| end.last_wait);
        let since = match before {
            None => State::Unknown(Doubt::NotSeenYet),
            Some((number, cpu)) if last_wait == Some(number) => State::Running { cpu },
            Some(_) => State::Unknown(Doubt::NotSeenSince),
        };
        self.add_span(&mut line, reached, end.map_or(self.to, |end| end.to), since);
        (!line.spans.is_empty() || !line.samples.is_empty()).then_some(line)
    }

    fn add_sample(&mut self, piece: &Piece<'_>, line: &mut ThreadLine) {
        if let Some(site) = piece.site.filter(|_| (self.from..self.to).contains(&piece.from)) {
            let place = self.places.index(site, false);
            line.samples.push(RunSample { time: piece.from, cpu: piece.cpu, place });
        }
    }

    /// Whether anything of this is in the timeline.
    fn is_shown(&self, from: Nanos, to: Nanos) -> bool {
        from.max(self.from) < to.min(self.to)
    }

    fn add_span(&self, line: &mut ThreadLine, from: Nanos, to: Nanos, state: State) {
        if self.is_shown(from, to) {
            line.spans.push(Span { from: from.max(self.from), to: to.min(self.to), state });
        }
    }
}

/// The owners and stacks of a timeline, numbered as they come.
#[derive(Default)]
struct Places {
    list: Vec<CutSample>,
    numbers: FxHashMap<(Site, bool), usize>,
}

impl Places {
    /// The number of this one; of a wait it is shown without how the kernel switches threads.
    fn index(&mut self, site: &Site, is_wait: bool) -> usize {
        let list = &mut self.list;
        *self.numbers.entry((site.clone(), is_wait)).or_insert_with(|| {
            let wait = Detail::over(WaitCause::Other);
            list.push(CutSample {
                owner: site.owner.share(),
                stack: site.stack.share(),
                detail: if is_wait { wait } else { Detail::None },
                labels: Vec::new(),
                values: Values::default(),
            });
            list.len() - 1
        })
    }
}
