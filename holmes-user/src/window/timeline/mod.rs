//! The timeline's ring: the latest waits and CPU samples one by one, in the order in which they ended.
//!
//! Must not: say what a thread did between them (`lines` does), or cost a profile anything: where the
//! window is full, these go before its buckets.

mod lines;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem::size_of;

use holmes_common::record::flag;

use super::ring::Window;
use super::sites::{Site, Sites, Unused};
use super::waits::Waiting;
use crate::collect::{Nanos, WaitCause};

pub use lines::{Doubt, RunSample, Span, State, ThreadLine, Timeline, WaitSpan};

/// When memory runs short one event of so many goes at once, so that the ring is not moved in memory for
/// each.
const MAKE_ROOM_SHARE: usize = 8;

/// What the ring counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineStats {
    /// Events that are there.
    pub events: usize,
    /// Events that fell out early, to stay under the bytes that the ring or the window may have.
    pub evicted: u64,
}

/// Something that a thread did.
#[derive(Debug)]
struct Event {
    /// When it was over.
    time: Nanos,
    tid: u32,
    /// The CPU that the thread was on then.
    cpu: u32,
    what: Done,
}

#[derive(Debug)]
enum Done {
    /// It has waited.
    Waited(Waited),
    /// A sample found it on the CPU.
    Ran(Site),
    /// It ended. `last_wait` is the number of its last wait, if it ran since.
    Ended { last_wait: Option<u8> },
}

/// A wait that is over.
#[derive(Debug)]
struct Waited {
    since: Nanos,
    lock: u64,
    /// How many it stands for.
    waits: u32,
    number: u8,
    /// Whether others of the thread were left out before it.
    follows_others: bool,
    cause: WaitCause,
    site: Site,
}

impl Event {
    fn site(&self) -> Option<&Site> {
        match &self.what {
            Done::Waited(waited) => Some(&waited.site),
            Done::Ran(site) => Some(site),
            Done::Ended { .. } => None,
        }
    }
}

/// Owner of the latest events.
#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    sites: Sites,
    /// Bytes that the events may occupy; 0 keeps none. Their owners and stacks are those of the buckets, as
    /// a rule: they are the window's, which lets go of events where it has too many.
    max_bytes: usize,
    evicted: u64,
    /// Of what was over before this, something is missing.
    whole_from: Nanos,
}

impl Ring {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    pub(super) fn stats(&self) -> TimelineStats {
        TimelineStats { events: self.events.len(), evicted: self.evicted }
    }

    /// Bytes of the ring's own tables (the interners count the stacks and owners).
    pub(super) fn bytes(&self) -> usize {
        self.events.capacity() * size_of::<Event>() + self.sites.bytes()
    }

    fn is_on(&self) -> bool {
        self.max_bytes > 0
    }

    /// Takes an event in. Says whether its site is new to the ring, so that the window holds it.
    fn add(&mut self, event: Event, unused: &mut Unused) -> bool {
        while (self.events.len() + 1) * size_of::<Event>() > self.max_bytes {
            if !self.evict_oldest(unused) {
                self.missing(event.time);
                return false;
            }
        }
        let site_is_new = event.site().is_some_and(|site| self.sites.add(site));
        if self.events.len() == self.events.capacity() {
            // Doubled as usual, but no further than there is room.
            let most = (self.max_bytes / size_of::<Event>()).saturating_sub(self.events.len());
            self.events.reserve_exact(self.events.len().clamp(1, most.max(1)));
        }
        self.events.push_back(event);
        site_is_new
    }

    fn evict_oldest(&mut self, unused: &mut Unused) -> bool {
        let Some(time) = self.remove_oldest(unused) else { return false };
        self.missing(time);
        true
    }

    /// An event of this time is not in the ring.
    fn missing(&mut self, time: Nanos) {
        self.evicted += 1;
        self.whole_from = self.whole_from.max(time);
    }

    fn remove_oldest(&mut self, unused: &mut Unused) -> Option<Nanos> {
        let Event { time, what, .. } = self.events.pop_front()?;
        match what {
            Done::Waited(Waited { site, .. }) | Done::Ran(site) => self.sites.remove(site, unused),
            Done::Ended { .. } => {}
        }
        Some(time)
    }

    /// Gives a part of the memory back; says whether there was any.
    pub(super) fn make_room(&mut self, unused: &mut Unused) -> bool {
        if self.events.capacity() == 0 {
            return false;
        }
        for _ in 0..self.events.len().div_ceil(MAKE_ROOM_SHARE) {
            self.evict_oldest(unused);
        }
        self.events.shrink_to_fit();
        self.sites.shrink();
        true
    }

    /// Forgets what was over before `oldest`.
    pub(super) fn expire(&mut self, oldest: Nanos, unused: &mut Unused) {
        while self.events.front().is_some_and(|event| event.time < oldest) {
            self.remove_oldest(unused);
        }
        if self.events.len() * 4 < self.events.capacity() {
            self.events.shrink_to(self.events.len() * 2);
        }
        self.sites.shrink();
    }
}

impl Window {
    /// Lets go of a part of the timeline, and of the stacks that only it has; says whether there was any.
    pub(super) fn shorten_timeline(&mut self) -> bool {
        let mut unused = Unused::new();
        let has_more = self.timeline.make_room(&mut unused);
        self.release(unused);
        has_more
    }

    /// A wait is over, on this CPU.
    pub(super) fn draw_wait(&mut self, tid: u32, waiting: &Waiting, time: Nanos, cpu: u32) {
        if !self.timeline.is_on() {
            return;
        }
        let what = Done::Waited(Waited {
            since: waiting.since(),
            lock: waiting.lock(),
            waits: u32::try_from(waiting.waits()).unwrap_or(u32::MAX),
            number: waiting.number(),
            follows_others: waiting.follows_others(),
            cause: waiting.cause(),
            site: waiting.site().clone(),
        });
        self.draw(Event { time, tid, cpu, what });
    }

    /// A sample found a thread on the CPU.
    pub(super) fn draw_sample(&mut self, tid: u32, site: Site, time: Nanos, cpu: u32) {
        if self.timeline.is_on() {
            self.draw(Event { time, tid, cpu, what: Done::Ran(site) });
        }
    }

    /// A thread has ended; `flags` say what is known of its waits.
    pub(super) fn draw_end(&mut self, tid: u32, time: Nanos, flags: u32) {
        if self.timeline.is_on() {
            let number = (flags >> flag::LAST_WAIT_SHIFT) as u8;
            let last_wait = (flags & flag::WAITS_LEFT_OUT == 0).then_some(number);
            self.draw(Event { time, tid, cpu: 0, what: Done::Ended { last_wait } });
        }
    }

    fn draw(&mut self, event: Event) {
        match event.site().cloned() {
            Some(site) => self.hold_for(&site, |this, unused| this.timeline.add(event, unused)),
            None => {
                let mut unused = Unused::new();
                self.timeline.add(event, &mut unused);
                self.release(unused);
            }
        }
    }
}
