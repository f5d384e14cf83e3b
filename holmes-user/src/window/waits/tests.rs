//! The ledger of waits, by what a profile has of them.

use super::*;
use crate::collect::What;
use crate::settings::WindowSettings;
use crate::window::Cut;
use crate::window::testing::{PERIOD_NS, Process};

const LOCK: u64 = 0x7000;

const END: What = What::WaitEnd { number: 1 };

fn window() -> Window {
    Window::new(&WindowSettings::default(), PERIOD_NS)
}

fn all(_: &Owner) -> bool {
    true
}

fn wait(waits: u64) -> What {
    What::Wait { waits, number: 1, cause: WaitCause::Futex, lock: LOCK }
}

fn cut(window: &Window, from: u64, to: u64) -> Cut {
    window.cut(ProfileKind::Blocked, &all, Nanos::from_secs(from), Nanos::from_secs(to))
}

/// Milliseconds waited in whole seconds.
fn waited(window: &Window, from: u64, to: u64) -> i64 {
    cut(window, from, to).totals()[1] / 1_000_000
}

#[test]
fn each_second_has_its_own_part_of_a_wait() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_400, &[0x2000], wait(1)));
    window.observe(app.does(7, 3_100, &[], END));
    assert_eq!([1, 2, 3, 4].map(|second| waited(&window, second, second + 1)), [600, 1000, 100, 0]);
    let whole = cut(&window, 0, 10);
    assert_eq!(whole.totals()[..2], [1, 1_700_000_000]);
    assert_eq!(whole.samples[0].detail, Detail::over(WaitCause::Futex), "{whole:?}");
    assert_eq!(window.stats().waits, WaitStats::default());
}

#[test]
fn what_goes_on_counts_up_to_the_end_of_the_cut() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_500, &[0x2000], wait(1)));
    window.observe(app.runs(9_000, &[0x2000]));
    assert_eq!(waited(&window, 0, 1), 0);
    assert_eq!(waited(&window, 0, 4), 2_500);
    assert_eq!(waited(&window, 3, 4), 1_000);
    assert_eq!(window.stats().waits.waiting, 1);
    // It has ended since: the same seconds have the same time.
    window.observe(app.does(7, 9_500, &[], END));
    assert_eq!((waited(&window, 0, 4), waited(&window, 0, 10)), (2_500, 8_000));
}

#[test]
fn who_holds_a_lock_is_known_as_long_as_it_is_waited_for() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_000, &[0x2000], wait(1)));
    window.observe(app.does(
        8,
        1_000,
        &[0x2000],
        What::Wait { waits: 1, number: 1, cause: WaitCause::Io, lock: 0 },
    ));
    assert_eq!(window.locks_awaited(&all), [(1, LOCK)].into());
    assert!(window.locks_awaited(&|owner| owner.tgid == 2).is_empty());
    let held = |tgid, tid| LockHolder { tgid, lock: LOCK, tid };
    window.locks_held(&[held(1, 4)]);
    window.locks_held(&[held(2, 5), held(1, 6)]);
    let holders: Vec<u32> = cut(&window, 0, 3)
        .samples
        .iter()
        .filter_map(|it| match it.detail {
            Detail::Wait { holder, .. } => Some(holder),
            _ => None,
        })
        .collect();
    assert!(holders.contains(&6) && !holders.contains(&5), "{holders:?}");
}

#[test]
fn a_wait_that_stands_for_others_counts_as_often() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_000, &[0x2000], wait(64)));
    window.observe(app.does(7, 1_010, &[], END));
    assert_eq!(cut(&window, 1, 2).totals()[..2], [64, 640_000_000]);
}

#[test]
fn an_end_that_is_lost_costs_the_time_and_is_counted() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_000, &[0x2000], wait(1)));
    // The end is missing: the thread cannot wait twice.
    window.observe(app.does(7, 2_000, &[0x2000], wait(1)));
    window.observe(app.does(7, 2_100, &[], What::Exit));
    // Of a thread that nobody knows.
    window.observe(app.does(8, 2_200, &[], END));
    assert_eq!(cut(&window, 0, 9).totals()[..2], [2, 0]);
    assert_eq!(window.stats().waits, WaitStats { unended: 2, ..WaitStats::default() });
    assert_eq!(window.waits.sites.kept_bytes(), 0);
}

#[test]
fn an_end_at_the_end_of_time_is_as_good_as_any() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_000, &[0x2000], wait(1)));
    window.observe(app.does(7, u64::MAX / 1_000_000, &[], END));
    let seconds = WindowSettings::default().span.as_secs();
    assert!(window.buckets.len() as u64 <= seconds, "{} buckets", window.buckets.len());
}

#[test]
fn the_ledger_is_bounded() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    let more = 100;
    for tid in 0..MAX_WAITING as u32 + more {
        window.observe(app.does(tid, 1_000, &[0x2000], wait(1)));
    }
    let stats = window.stats().waits;
    assert_eq!(stats.waiting as u64 + stats.untracked, MAX_WAITING as u64 + u64::from(more));
    assert!(stats.waiting <= MAX_WAITING && window.bytes() <= window.stats().max_bytes);
}

fn found(number: u8, since: u64) -> What {
    let since = Nanos::from_secs(since);
    What::Blocked { since, number, cause: WaitCause::Futex, lock: LOCK }
}

#[test]
fn a_wait_that_is_found_counts_from_its_beginning_on_and_began_nowhere() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 90_000, &[0x2000], found(1, 20)));
    window.observe(app.runs(91_000, &[0x2000]));
    assert_eq!(waited(&window, 80, 90), 10_000);
    assert!(window.knows_wait(7, 1) && !window.knows_wait(7, 2) && !window.knows_wait(8, 1));
    assert_eq!(window.locks_awaited(&all), [(1, LOCK)].into());
    let whole = cut(&window, 80, 90);
    assert_eq!(whole.totals()[..2], [0, 10_000_000_000]);
    let detail =
        |blocked_for| Detail::Wait { cause: WaitCause::Futex, lock: LOCK, holder: 0, blocked_for };
    assert_eq!(whole.samples[0].detail, detail(70_000_000_000), "for longer than the profile");
    let (from, onset, end) = (Nanos::from_secs(80), Nanos::from_secs(84), Nanos::from_secs(90));
    let base = window.cut_base(ProfileKind::Blocked, &all, from, onset, end);
    assert_eq!(base.samples[0].detail, whole.samples[0].detail, "one is taken from the other");
    // Its end is seen: each second has its part.
    window.observe(app.does(7, 95_500, &[], END));
    assert_eq!(waited(&window, 80, 100), 15_500);
    assert_eq!(cut(&window, 80, 100).totals()[0], 0);
    assert_eq!(window.stats().waits, WaitStats::default());
}

#[test]
fn a_wait_that_is_known_is_not_found_again() {
    let (mut window, app) = (window(), Process::new(1, "/app"));
    window.observe(app.does(7, 1_000, &[0x2000], wait(1)));
    window.observe(app.does(7, 3_000, &[0x3000], found(1, 2)));
    let whole = cut(&window, 0, 5);
    assert_eq!((whole.totals()[..2].to_vec(), whole.samples.len()), (vec![1, 4_000_000_000], 1));
    // Another one of the thread: the end of the first was lost.
    window.observe(app.does(7, 3_000, &[0x3000], found(2, 2)));
    assert_eq!(cut(&window, 0, 5).totals()[..2], [1, 3_000_000_000]);
    assert_eq!(window.stats().waits.unended, 1);
}

#[test]
fn the_first_digit_is_what_is_left() {
    let of = [0, 7, 10, 19, 99, 123_456, u64::MAX].map(first_digit);
    assert_eq!(of, [0, 7, 10, 10, 90, 100_000, 10_000_000_000_000_000_000]);
}
