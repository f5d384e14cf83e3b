//! Slow leaks: memory that grows and keeps growing, by steps too small for any other rule.
//!
//! The span that a rule looks at is cut into slots, and of each only the lowest reading is kept: a
//! heap that is collected shows its floor. Growth *stays* above the rate if the line through the
//! floors rises that fast, and none of the span's parts lags far behind: one step, or a cache that has
//! filled, is no leak. A heap that is collected less often than once in the span looks like one.
//!
//! Must not: know of cooldowns or budgets (the book does).

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::collect::Nanos;
use crate::signals::MemoryUse;

/// Parts of the span, each of which has to grow: as many as a step, a second step and the start of a
/// program cannot make up.
const PARTS: usize = 5;

/// Slots of a part: readings in one slot are as good as one.
const SLOTS_PER_PART: u64 = 6;

/// Readings that are kept of a target at most: a rule's span in memory is 24 bytes times this.
const SLOTS: u64 = PARTS as u64 * SLOTS_PER_PART;

/// A part that grows slower than this share of the rule's rate has stopped growing.
const LAG: f64 = 0.5;

/// Growth whose last part is slower than this share of the mean ebbs away: a program that has just
/// started.
const EBB: f64 = 0.25;

/// Share of the span that must lie between the floors of its first and last part. Between their
/// beginnings it is four fifths; much less, and memory fell in the first part.
const SPREAD: f64 = 0.7;

/// Readings that a span must hold, so that each part has some: two.
pub const MIN_READINGS: u32 = 2 * PARTS as u32;

/// When growth is a leak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeakRule {
    /// Bytes per second; slower growth never fires.
    pub rate: f64,
    /// How long it must have stayed above that.
    #[serde(rename = "for", with = "crate::rules::rule::seconds")]
    pub span: Duration,
    /// The limit must be reached within this time at the rate seen; targets without a limit never
    /// fire then. 0 is off: the rate alone decides.
    #[serde(with = "crate::rules::rule::seconds")]
    pub within: Duration,
    /// After firing, the rule is quiet for this long on the same target.
    #[serde(with = "crate::rules::rule::seconds")]
    pub cooldown: Duration,
}

/// How a target's memory has grown over a rule's span.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Bytes per second.
    pub rate: f64,
    /// Over how long.
    #[serde(with = "crate::rules::rule::seconds")]
    pub span: Duration,
    /// Memory now, in bytes, without what the kernel can take back.
    pub bytes: u64,
    /// The nearest limit, in bytes.
    pub limit: Option<u64>,
    /// Seconds until the limit is reached at this rate.
    pub seconds_to_limit: Option<f64>,
}

impl fmt::Display for Growth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |bytes: f64| ByteSize::b(bytes as u64).display().iec();
        let minutes = |seconds: f64| {
            let seconds = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX);
            humantime::format_duration(seconds).to_string()
        };
        write!(
            out,
            "{} a minute for {}, now {}",
            show(60.0 * self.rate),
            minutes(self.span.as_secs_f64()),
            show(self.bytes as f64)
        )?;
        match (self.limit, self.seconds_to_limit) {
            (Some(limit), Some(seconds)) => {
                write!(out, "; at its limit of {} in {}", show(limit as f64), minutes(seconds))
            }
            _ => write!(out, "; without a limit"),
        }
    }
}

/// The lowest reading of a slot.
#[derive(Clone, Copy, Debug)]
struct Floor {
    slot: u64,
    time: Nanos,
    bytes: u64,
}

/// A target's memory over a rule's span.
#[derive(Clone, Debug, Default)]
pub(super) struct Floors {
    span: Duration,
    /// The first reading without a gap as long as the span.
    began: Nanos,
    /// By slot, at most [`SLOTS`].
    floors: VecDeque<Floor>,
}

impl Floors {
    /// Takes a reading in. Another span, or a clock that runs backwards, begins anew.
    fn push(&mut self, span: Duration, now: Nanos, bytes: u64) {
        let slot = now.0 / slot_width(span);
        if self.span != span || self.floors.back().is_some_and(|last| last.slot > slot) {
            *self = Self { span, ..Self::default() };
        }
        while self.floors.front().is_some_and(|first| first.slot.saturating_add(SLOTS) <= slot) {
            self.floors.pop_front();
        }
        let floor = Floor { slot, time: now, bytes };
        match self.floors.back_mut() {
            None => {
                self.began = now;
                self.floors.push_back(floor);
            }
            Some(last) if last.slot < slot => self.floors.push_back(floor),
            Some(last) if bytes < last.bytes => *last = floor,
            Some(_) => {}
        }
    }

    /// Whether the span is covered.
    fn is_warm(&self, now: Nanos) -> bool {
        now.since(self.began) >= self.span
    }

    /// How fast the floor rose from each part of the span to the next, in bytes per second; `None`
    /// where a part has no reading, or memory fell in the first.
    fn rises(&self) -> Option<[f64; PARTS - 1]> {
        let begin = self.floors.back()?.slot.saturating_sub(SLOTS - 1);
        let mut lowest: [Option<Floor>; PARTS] = [None; PARTS];
        for floor in &self.floors {
            let part = (floor.slot.saturating_sub(begin) / SLOTS_PER_PART) as usize;
            let part = lowest.get_mut(part)?;
            if part.is_none_or(|lowest| floor.bytes < lowest.bytes) {
                *part = Some(*floor);
            }
        }
        let (first, last) = ((*lowest.first()?)?, (*lowest.last()?)?);
        if last.time.since(first.time).as_secs_f64() < SPREAD * self.span.as_secs_f64() {
            return None;
        }
        let mut rises = [0.0; PARTS - 1];
        for (rise, pair) in rises.iter_mut().zip(lowest.windows(2)) {
            let [Some(before), Some(after)] = *pair else { return None };
            *rise = slope(before, after)?;
        }
        Some(rises)
    }

    /// The line through the floors, by Theil and Sen: the median of the slopes between any two. What
    /// a few odd readings say does not move it.
    fn rate(&self) -> Option<f64> {
        let pairs = self.floors.iter().enumerate().flat_map(|(index, after)| {
            self.floors.iter().take(index).filter_map(move |before| slope(*before, *after))
        });
        let mut slopes: Vec<f64> = pairs.collect();
        let middle = slopes.len().checked_sub(1)? / 2;
        Some(*slopes.select_nth_unstable_by(middle, f64::total_cmp).1)
    }
}

/// Nanoseconds of a slot.
fn slot_width(span: Duration) -> u64 {
    let width = span.as_nanos() / u128::from(SLOTS);
    u64::try_from(width).unwrap_or(u64::MAX).max(1)
}

/// Bytes per second from one reading to a later one.
fn slope(before: Floor, after: Floor) -> Option<f64> {
    let elapsed = after.time.since(before.time).as_secs_f64();
    (elapsed > 0.0).then(|| (after.bytes as f64 - before.bytes as f64) / elapsed)
}

/// Takes a reading in, and says whether it shows a leak: the growth, and how fast it was from part
/// to part of the span.
pub(super) fn judge(
    rule: &LeakRule,
    floors: &mut Floors,
    now: Nanos,
    memory: &MemoryUse,
) -> Option<(Growth, [f64; PARTS - 1])> {
    floors.push(rule.span, now, memory.bytes);
    if !floors.is_warm(now) {
        return None;
    }
    // Most targets end here: the median of all slopes costs more.
    let rises = floors.rises()?;
    let lags = |rise: &f64| *rise <= 0.0 || *rise < LAG * rule.rate;
    let mean = rises.iter().sum::<f64>() / rises.len() as f64;
    let ebbs = rises.last().is_none_or(|last| *last < EBB * mean);
    if ebbs || rises.iter().any(lags) {
        return None;
    }
    let rate = floors.rate().filter(|rate| *rate > 0.0 && *rate >= rule.rate)?;
    let room = memory.limit.map(|limit| limit.bytes.saturating_sub(limit.charged));
    let seconds_to_limit = room.map(|room| room as f64 / rate);
    let soon = |seconds: f64| seconds <= rule.within.as_secs_f64();
    let growth = Growth {
        rate,
        span: rule.span,
        bytes: memory.bytes,
        limit: memory.limit.map(|limit| limit.bytes),
        seconds_to_limit,
    };
    (rule.within.is_zero() || seconds_to_limit.is_some_and(soon)).then_some((growth, rises))
}

#[cfg(test)]
mod tests;
