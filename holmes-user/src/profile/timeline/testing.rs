//! Made-up timelines for the tests of both formats.

use proptest::prelude::*;

use super::super::testing::{Made, cut_strategy};
use crate::collect::{Nanos, WaitCause};
use crate::symbolize::SymbolTable;
use crate::window::{Detail, Doubt, RunSample, Span, State, ThreadLine, Timeline, WaitSpan};

/// A timeline and names for some of its places.
#[derive(Clone, Debug)]
pub(super) struct MadeTimeline {
    pub(super) timeline: Timeline,
    pub(super) symbols: SymbolTable,
}

/// A span: its length in nanoseconds, its state and its place.
type Part = (u64, State, usize);

/// Threads of the made cut's owners, and what each does.
fn lines(made: Made, from: u64, parts: &[(usize, Vec<Part>)]) -> MadeTimeline {
    let Made { cut: mut places, symbols } = made;
    let mut end = from;
    let count = places.samples.len();
    let threads = parts.iter().zip(1u32..).filter(|_| count > 0).map(|((owner, parts), tid)| {
        let mut reached = from;
        let mut line = ThreadLine {
            owner: places.samples[owner % count].owner.clone(),
            tid,
            spans: Vec::new(),
            samples: Vec::new(),
        };
        for &(length, state, place) in parts {
            let place = place % count;
            let state = match state {
                State::Waiting(wait) => State::Waiting(WaitSpan { place, ..wait }),
                other => other,
            };
            let to = reached + length;
            line.spans.push(Span { from: Nanos(reached), to: Nanos(to), state });
            if matches!(state, State::Running { .. }) {
                line.samples.push(RunSample { time: Nanos(reached), cpu: 1, place });
            }
            reached = to;
        }
        end = end.max(reached);
        line
    });
    let mut threads: Vec<_> = threads.collect();
    threads.sort_by_key(|line| (line.owner.tgid, line.tid));
    let (from, to) = (Nanos(from), Nanos(end));
    (places.from, places.to) = (from, to);
    let timeline = Timeline { from, to, whole_from: from, places, threads };
    MadeTimeline { timeline, symbols }
}

/// A thread that waits for a lock, runs, and is lost sight of.
pub(super) fn made_timeline() -> MadeTimeline {
    let mut made = super::super::testing::made();
    made.cut.samples[0].detail =
        Detail::Wait { cause: WaitCause::Futex, lock: 0, holder: 0, blocked_for: 0 };
    let wait = WaitSpan {
        place: 0,
        cause: WaitCause::Futex,
        lock: 0x7000,
        holder: 9,
        waits: 128,
        goes_on: false,
    };
    let parts = vec![
        (1_500, State::Waiting(wait), 0),
        (1_000_001, State::Running { cpu: 1 }, 1),
        (7, State::Unknown(Doubt::LeftOut), 0),
    ];
    lines(made, 5_000_000_000, &[(0, parts)])
}

/// Any timeline: threads of any owners, in any states, at any time.
pub(super) fn timeline_strategy() -> impl Strategy<Value = MadeTimeline> {
    let wait = (0usize..10, any::<u64>(), any::<u32>(), 1u64..200, any::<bool>()).prop_map(
        |(cause, lock, holder, waits, goes_on)| {
            let causes = [
                WaitCause::RunQueue,
                WaitCause::Futex,
                WaitCause::Sleep,
                WaitCause::Io,
                WaitCause::Other,
            ];
            let cause = causes[cause % causes.len()];
            State::Waiting(WaitSpan { place: 0, cause, lock, holder, waits, goes_on })
        },
    );
    let state = prop_oneof![
        3 => wait,
        2 => (0u32..4).prop_map(|cpu| State::Running { cpu }),
        1 => Just(State::Unknown(Doubt::Lost)),
    ];
    let parts = prop::collection::vec((1u64..10_000_000_000, state, 0usize..30), 0..20);
    let threads = prop::collection::vec((0usize..30, parts), 0..6);
    // A hundred days after boot.
    (cut_strategy(), 0u64..9_000_000_000_000_000, threads)
        .prop_map(|(made, from, threads)| lines(made, from, &threads))
}
