//! What is drawn of a thread, and what is not because nobody knows.

use std::time::Duration;

use holmes_common::record::flag;
use proptest::prelude::*;

use super::*;
use crate::collect::What;
use crate::process::Attributed;
use crate::settings::WindowSettings;
use crate::window::testing::{PERIOD_NS, Process};
use crate::window::{Detail, Owner};

const LOCK: u64 = 0x7000;

fn window(timeline_bytes: usize) -> Window {
    Window::new(&WindowSettings { timeline_bytes, ..WindowSettings::default() }, PERIOD_NS)
}

fn all(_: &Owner) -> bool {
    true
}

/// The beginning and the end of the thread's wait of this number, in milliseconds.
fn waits(app: &Process, tid: u32, number: u8, [from, to]: [u64; 2]) -> [Attributed; 2] {
    let what = What::Wait { waits: 1, number, cause: WaitCause::Futex, lock: LOCK };
    let end = app.does(tid, to, &[], What::WaitEnd { number });
    [app.does(tid, from, &[0x2000 + u64::from(number)], what), end]
}

fn observe(window: &mut Window, events: impl IntoIterator<Item = Attributed>) {
    for event in events {
        let _ = window.observe(event);
    }
}

/// The spans of the only line in `from..to`: from and to in milliseconds, and what.
fn spans(window: &Window, from: u64, to: u64) -> Vec<(u64, u64, &'static str)> {
    let (from, to) = (Nanos(from * 1_000_000), Nanos(to * 1_000_000));
    let timeline = window.timeline(&all, from, to).unwrap();
    assert!(timeline.threads.len() <= 1, "{timeline:?}");
    let spans = timeline.threads.iter().flat_map(|line| line.spans.clone());
    spans
        .map(|Span { from, to, state }| {
            let what = match state {
                State::Running { .. } => "runs",
                State::Waiting(wait) if wait.goes_on => "goes on",
                State::Waiting(_) => "waits",
                State::Unknown(doubt) => doubt.text(),
            };
            (from.0 / 1_000_000, to.0 / 1_000_000, what)
        })
        .collect()
}

#[test]
fn up_to_its_end_a_thread_ran_if_its_last_wait_is_known() {
    let app = Process::new(1, "/app");
    let number = |number: u32| number << flag::LAST_WAIT_SHIFT;
    let cases =
        [(number(1), "runs"), (number(2), SINCE), (number(1) | flag::WAITS_LEFT_OUT, SINCE)];
    for (flags, since) in cases {
        let mut window = window(1 << 20);
        observe(&mut window, waits(&app, 7, 1, [1_000, 1_400]));
        let mut exit = app.does(7, 1_500, &[], What::Exit);
        exit.observation.flags = flags;
        observe(&mut window, [exit]);
        assert_eq!(spans(&window, 0, 9_000)[1..], [(1_400, 1_500, since)]);
    }
}

const SINCE: &str = Doubt::NotSeenSince.text();

#[test]
fn between_two_waits_a_thread_ran() {
    let (mut window, app) = (window(1 << 20), Process::new(1, "/app"));
    let events = [waits(&app, 7, 1, [1_000, 1_400]), waits(&app, 7, 2, [1_500, 2_000])];
    observe(&mut window, events.into_iter().flatten());
    let whole = [(1_000, 1_400, "waits"), (1_400, 1_500, "runs"), (1_500, 2_000, "waits")];
    assert_eq!(spans(&window, 0, 2_000), whole);
    // Of what came after the second one nothing is known; of what is not asked for nothing is told.
    let part = [(1_450, 1_500, "runs"), (1_500, 2_000, "waits"), (2_000, 3_000, SINCE)];
    assert_eq!(spans(&window, 1_450, 3_000), part);
    assert_eq!(spans(&window, 1_350, 1_600)[2], (1_500, 1_600, "goes on"));
    assert!(window.timeline(&|_| false, Nanos(0), Nanos(u64::MAX)).unwrap().threads.is_empty());
}

#[test]
fn what_was_left_out_or_lost_is_not_taken_for_running() {
    let app = Process::new(1, "/app");
    for (number, flags, doubt) in [(2, 0, None), (3, 0, Some(Doubt::Lost))].into_iter().chain([(
        2,
        flag::WAITS_LEFT_OUT,
        Some(Doubt::LeftOut),
    )]) {
        let mut window = window(1 << 20);
        observe(&mut window, waits(&app, 7, 1, [1_000, 1_400]));
        let [mut begin, end] = waits(&app, 7, number, [1_500, 2_000]);
        begin.observation.flags = flags;
        observe(&mut window, [begin, end]);
        let between = doubt.map_or("runs", Doubt::text);
        assert_eq!(spans(&window, 0, 2_000)[1], (1_400, 1_500, between));
    }
}

#[test]
fn what_goes_on_is_drawn_up_to_the_end_with_who_holds_the_lock() {
    let (mut window, app) = (window(1 << 20), Process::new(1, "/app"));
    let [begin, _] = waits(&app, 7, 1, [1_000, 1_000]);
    window.observe(begin);
    window.observe(app.does(9, 5_000, &[0x3000], What::CpuSample));
    window.locks_held(&[crate::process::LockHolder { tgid: 1, lock: LOCK, tid: 9 }]);
    let timeline = window.timeline(&all, Nanos(0), Nanos::from_secs(4)).unwrap();
    let [line] = &timeline.threads[..] else { panic!("{timeline:?}") };
    let [Span { from, to, state: State::Waiting(wait) }] = line.spans[..] else {
        panic!("{line:?}")
    };
    assert_eq!((from, to), (Nanos::from_secs(1), Nanos::from_secs(4)));
    assert_eq!((wait.lock, wait.holder, wait.waits, wait.goes_on), (LOCK, 9, 1, true));
    let place = &timeline.places.samples[wait.place];
    assert_eq!(*place.stack.user, [0x2001]);
    assert!(matches!(place.detail, Detail::Wait { .. }));
}

#[test]
fn samples_are_there_with_their_cpu_and_a_thread_ends() {
    let (mut window, app) = (window(1 << 20), Process::new(1, "/app"));
    let mut sample = app.does(7, 1_200, &[0x2000], What::CpuSample);
    sample.observation.cpu = 3;
    window.observe(sample);
    window.observe(app.does(7, 1_500, &[], What::Exit));
    // Another one of the same number.
    window.observe(app.does(7, 1_700, &[0x2001], What::CpuSample));
    let timeline = window.timeline(&all, Nanos(0), Nanos::from_secs(2)).unwrap();
    let ends: Vec<_> =
        timeline.threads.iter().map(|line| (line.spans[0].to, &line.samples)).collect();
    let [(first_end, first), (second_end, second)] = ends[..] else { panic!("{timeline:?}") };
    assert_eq!((first_end.0, second_end.0), (1_500_000_000, 2_000_000_000));
    assert_eq!((first.len(), first[0].cpu, second.len(), second[0].place), (1, 3, 1, 1));
}

#[test]
fn the_ring_is_bounded_and_says_from_when_on_it_is_whole() {
    let app = Process::new(1, "/app");
    let fill = |timeline_bytes: usize| {
        let mut window = window(timeline_bytes);
        for turn in 0..10_000u64 {
            let number = turn as u8;
            observe(&mut window, waits(&app, 7, number, [2 * turn, 2 * turn + 1]));
        }
        window
    };
    assert!(fill(0).timeline(&all, Nanos(0), Nanos(1)).is_none());
    for bytes in [1, 1 << 12, 1 << 16] {
        let window = fill(bytes);
        let stats = window.stats().timeline;
        assert_eq!(stats.evicted + stats.events as u64, 10_000);
        assert!(window.timeline.events.capacity() * size_of::<Event>() <= bytes);
        let whole_from = window.timeline(&all, Nanos(0), Nanos(u64::MAX)).unwrap().whole_from;
        assert_eq!(whole_from.0, (2 * stats.evicted - 1) * 1_000_000);
    }
    assert_eq!(fill(1 << 22).stats().timeline.evicted, 0);
}

#[test]
fn a_full_window_gives_up_the_timeline_before_its_profiles() {
    let settings = WindowSettings { max_bytes: 100_000, ..WindowSettings::default() };
    let (mut window, app) = (Window::new(&settings, PERIOD_NS), Process::new(1, "/app"));
    for turn in 0..20_000u64 {
        let ms = turn / 20;
        let event = app.does(7, ms, &[0x2000], What::CpuSample);
        window.observe(event);
        assert!(window.bytes() <= settings.max_bytes);
    }
    let stats = window.stats();
    assert!(stats.timeline.evicted > 0 && stats.evicted_buckets == 0, "{stats:?}");
}

#[test]
fn stacks_that_only_the_timeline_has_make_room_for_new_ones() {
    let settings = WindowSettings { max_stacks: 4, ..WindowSettings::default() };
    let (mut window, app) = (Window::new(&settings, PERIOD_NS), Process::new(1, "/app"));
    for second in 1..50 {
        let event = app.runs(second * 1_000, &[0x2000 + second]);
        assert_eq!(window.observe(event), crate::window::Fate::Held, "second {second}");
    }
    let stats = window.stats();
    assert!(stats.stacks <= 4 && stats.timeline.evicted > 0, "{stats:?}");
}

#[test]
fn what_left_the_window_leaves_the_ring() {
    let settings = WindowSettings { span: Duration::from_secs(2), ..WindowSettings::default() };
    let (mut window, app) = (Window::new(&settings, PERIOD_NS), Process::new(1, "/app"));
    observe(&mut window, waits(&app, 7, 1, [1_000, 1_400]));
    window.observe(app.does(7, 9_000, &[], What::Exit));
    window.advance(Nanos::from_secs(20));
    assert_eq!(window.stats().timeline, TimelineStats::default());
    assert_eq!(window.timeline.sites.kept_bytes(), 0);
}

proptest! {
    /// Whatever comes, in whatever order: a line has no hole and no overlap, and no wait is longer than it was.
    #[test]
    fn lines_are_whole(
        events in prop::collection::vec((1u32..4, 0u64..3_000, 0u8..6, any::<u8>()), 0..60),
        from in 0u64..2_000,
        length in 0u64..2_000,
        bytes in prop_oneof![Just(1usize << 20), 200usize..4_000],
    ) {
        let (mut window, app) = (window(bytes), Process::new(1, "/app"));
        for (tid, ms, what, number) in events {
            let wait = What::Wait { waits: 1, number, cause: WaitCause::Io, lock: 0 };
            let what = match what {
                0 | 1 => wait,
                2 | 3 => What::WaitEnd { number },
                4 => What::CpuSample,
                _ => What::Exit,
            };
            window.observe(app.does(tid, ms, &[0x2000], what));
        }
        let (from, to) = (Nanos(from * 1_000_000), Nanos((from + length) * 1_000_000));
        let timeline = window.timeline(&all, from, to).unwrap();
        for line in &timeline.threads {
            prop_assert!(line.spans.iter().all(|span| from <= span.from && span.from < span.to && span.to <= to));
            prop_assert!(line.spans.windows(2).all(|pair| pair[0].to == pair[1].from), "{line:?}");
            prop_assert!(line.samples.windows(2).all(|pair| pair[0].time <= pair[1].time));
            let places = line.samples.iter().map(|sample| sample.place);
            prop_assert!(places.max().is_none_or(|place| place < timeline.places.samples.len()));
        }
    }
}
