//! The residency ledger behind the window's door, on made-up faults.

use std::time::Duration;

use crate::collect::{Memory, Nanos, What};
use crate::settings::WindowSettings;
use crate::window::testing::{PERIOD_NS, Process};
use crate::window::{Fate, Owner, ProfileKind, Window};

use holmes_common::record::flag;

/// What a sample stands for.
const BYTES: u64 = 512 << 10;

fn window(max_bytes: usize) -> Window {
    // Time passes only once it is longer than this.
    let span = Duration::from_secs(2);
    Window::new(
        &WindowSettings { span, max_bytes, max_stacks: 1 << 16, timeline_bytes: 0 },
        PERIOD_NS,
    )
}

fn roomy() -> Window {
    window(64 << 20)
}

fn fault(address: u64) -> What {
    What::Fault { address, bytes: BYTES, memory: Memory::Anonymous }
}

/// The process touches a page under this function.
fn touch(window: &mut Window, process: &Process, ms: u64, function: u64, address: u64) {
    assert_eq!(
        window.observe(process.does(process.tgid, ms, &[function], fault(address))),
        Fate::Held
    );
}

fn tell(window: &mut Window, process: &Process, ms: u64, what: What) {
    window.observe(process.does(process.tgid, ms, &[1], what));
}

fn end(window: &mut Window, process: &Process, ms: u64) {
    let mut last = process.does(process.tgid, ms, &[], What::Exit);
    last.observation.flags |= flag::LAST_THREAD;
    window.observe(last);
}

/// Samples in use of each process and function at the end of a second.
fn in_use(window: &Window, second: u64) -> Vec<(u32, u64, i64)> {
    let all = |_: &Owner| true;
    let cut = window.cut(ProfileKind::Memory, &all, Nanos(0), Nanos::from_secs(second));
    let rows = cut
        .samples
        .iter()
        .map(|it| (it.owner.tgid, it.stack.user[0], it.values[3] / BYTES.cast_signed()));
    rows.filter(|row| row.2 != 0).collect()
}

#[test]
fn what_is_given_back_is_not_in_use() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    for page in 0..8 {
        touch(&mut window, &app, 1_000, page / 4, page << 20);
    }
    // From the middle of a page to the middle of another: the first stays.
    tell(&mut window, &app, 1_100, What::Released { start: 1, bytes: (2 << 20) + 8 });
    assert_eq!(in_use(&window, 2), [(7, 0, 2), (7, 1, 4)]);
    tell(&mut window, &app, 1_200, What::Released { start: 6 << 20, bytes: u64::MAX });
    assert_eq!(in_use(&window, 2), [(7, 0, 2), (7, 1, 2)]);
    window.pages_gone(7, &[4 << 20, 99]);
    assert_eq!(in_use(&window, 2), [(7, 0, 2), (7, 1, 1)]);
    // Who touches it again has it.
    touch(&mut window, &app, 1_300, 9, 5 << 20);
    assert_eq!(in_use(&window, 2), [(7, 0, 2), (7, 9, 1)]);
    tell(&mut window, &app, 1_400, What::Exec);
    assert_eq!(in_use(&window, 2), []);
}

#[test]
fn what_is_moved_stays_in_use_where_it_is_now() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    touch(&mut window, &app, 1_000, 1, 0x10_0000);
    touch(&mut window, &app, 1_000, 2, 0x50_0000);
    tell(&mut window, &app, 1_100, What::Moved { from: 0x10_0000, to: 0x50_0000, bytes: 1 << 20 });
    assert_eq!(in_use(&window, 2), [(7, 1, 1)], "what was there is gone");
    tell(&mut window, &app, 1_200, What::Released { start: 0x10_0000, bytes: 1 << 20 });
    assert_eq!(in_use(&window, 2), [(7, 1, 1)]);
    // Onto itself, in part: the kernel refuses that, a record need not.
    tell(&mut window, &app, 1_200, What::Moved { from: 0x50_0000, to: 0x50_1000, bytes: 1 << 20 });
    tell(&mut window, &app, 1_300, What::Released { start: 0x50_0000, bytes: 1 << 20 });
    assert_eq!(in_use(&window, 2), []);
}

#[test]
fn no_memory_is_no_sample() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    let none = What::Fault { address: 4096, bytes: 0, memory: Memory::Unknown };
    assert_eq!(window.observe(app.does(7, 1_000, &[1], none)), Fate::NotProfiled);
    assert_eq!(in_use(&window, 2), []);
}

/// A parent with four pages, and a child of it.
fn forked(window: &mut Window) -> (Process, Process) {
    let (parent, child) = (Process::new(7, "/app"), Process::new(8, "/app"));
    for page in 1..=4 {
        touch(window, &parent, 1_000, 1, page << 20);
    }
    tell(window, &parent, 1_500, What::NewProcess { tgid: 8 });
    (parent, child)
}

#[test]
fn what_a_family_has_counts_once_as_long_as_one_has_it() {
    for noted in [true, false] {
        let mut window = roomy();
        let (parent, child) = forked(&mut window);
        let later = if noted { 4_000 } else { 1_600 };
        window.advance(Nanos(later * 1_000_000));
        assert_eq!(in_use(&window, 4), [(7, 1, 4)], "noted: {noted}");
        tell(&mut window, &parent, later, What::Released { start: 0, bytes: 3 << 20 });
        window.advance(Nanos::from_secs(8));
        assert_eq!(in_use(&window, 8), [(7, 1, 4)], "the child has it, noted: {noted}");
        // Its own child has it from both.
        tell(&mut window, &child, 8_000, What::NewProcess { tgid: 9 });
        end(&mut window, &child, 8_100);
        end(&mut window, &parent, 8_200);
        window.advance(Nanos::from_secs(18));
        assert_eq!(in_use(&window, 18), [(7, 1, 4)], "the grandchild has it, noted: {noted}");
        window.pages_gone(9, &[4 << 20]);
        assert_eq!(in_use(&window, 18), [(7, 1, 3)], "noted: {noted}");
        end(&mut window, &Process::new(9, "/app"), 18_500);
        assert_eq!(in_use(&window, 20), []);
        window.advance(Nanos::from_secs(60));
        assert_eq!(window.bytes(), 0, "noted: {noted}");
    }
}

#[test]
fn a_copy_of_what_was_shared_counts_besides() {
    for noted in [true, false] {
        let mut window = roomy();
        let (parent, _child) = forked(&mut window);
        let later = if noted { 4_000 } else { 1_600 };
        window.advance(Nanos(later * 1_000_000));
        touch(&mut window, &parent, later, 2, 2 << 20);
        window.advance(Nanos::from_secs(8));
        assert_eq!(in_use(&window, 8), [(7, 1, 4), (7, 2, 1)], "noted: {noted}");
    }
}

/// What faulted without bringing memory is not counted on top of what is resident; after a fork it is
/// the older pages that are no longer the process's own.
#[test]
fn no_more_is_in_use_than_is_resident() {
    let (app, mut window) = (Process::new(6, "/app"), roomy());
    for page in 0..40 {
        touch(&mut window, &app, 1_000, page % 2, page << 20);
    }
    window.resident(6, [20 * BYTES, 0]);
    assert_eq!(in_use(&window, 2), [(6, 0, 10), (6, 1, 10)]);
    window.resident(6, [19 * BYTES, 0]);
    assert_eq!(in_use(&window, 2), [(6, 0, 10), (6, 1, 10)], "within the error");

    let (mut window, parent) = (roomy(), Process::new(7, "/app"));
    for page in 0..40 {
        touch(&mut window, &parent, 1_000, 1, page << 20);
    }
    tell(&mut window, &parent, 1_500, What::NewProcess { tgid: 8 });
    window.advance(Nanos::from_secs(4));
    for page in 0..40 {
        touch(&mut window, &parent, 5_000, 2, (page << 20) + 4096);
    }
    window.resident(7, [40 * BYTES, 0]);
    window.resident(8, [40 * BYTES, 0]);
    assert_eq!(in_use(&window, 6), [(7, 1, 40), (7, 2, 40)]);
    end(&mut window, &Process::new(8, "/app"), 5_500);
    assert_eq!(in_use(&window, 6), [(7, 2, 40)]);
    // More than the older ones: of the copies, too.
    window.resident(7, [20 * BYTES, 0]);
    assert_eq!(in_use(&window, 6), [(7, 2, 20)]);
}

#[test]
fn a_reused_number_is_another_process() {
    let mut window = roomy();
    let (parent, child) = forked(&mut window);
    end(&mut window, &child, 1_600);
    tell(&mut window, &Process::new(5, "/app"), 1_700, What::NewProcess { tgid: 8 });
    end(&mut window, &parent, 1_800);
    window.advance(Nanos::from_secs(16));
    assert_eq!(in_use(&window, 16), [], "the new one has nothing of the other's parent");
    window.advance(Nanos::from_secs(60));
    assert_eq!(window.bytes(), 0);
}

/// A process that is gone when the incident is cut had its memory at the end of the span before.
#[test]
fn who_ends_after_the_span_had_it() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    touch(&mut window, &app, 1_000, 1, 4096);
    end(&mut window, &app, 3_200);
    assert_eq!(in_use(&window, 3), [(7, 1, 1)]);
    assert_eq!(in_use(&window, 4), []);
}

/// A hundred thousand pages in a window that holds a few thousand: the sums stay, by function, and
/// by process of a family.
#[test]
fn thinning_keeps_the_sums() {
    const PAGES: u64 = 100_000;
    let mut window = window(4 << 20);
    let (parent, mut ms) = (Process::new(7, "/app"), 1_000);
    for page in 0..PAGES {
        // In a pattern, in addresses as in time.
        ms += u64::from(page % 100 == 0);
        window.observe(parent.does(7, ms, &[page % 4], fault(page << 12)));
        if page == PAGES / 2 {
            tell(&mut window, &parent, ms, What::NewProcess { tgid: 8 });
            ms += 1_500;
            window.advance(Nanos(ms * 1_000_000));
        }
    }
    let stats = window.stats().residents;
    assert!(stats.thinned > 2 && stats.thinned < 10 && stats.untracked == 0, "{stats:?}");
    assert!(window.bytes() <= 4 << 20, "{} bytes", window.bytes());
    let wanted = PAGES.cast_signed() / 4;
    let rows = in_use(&window, 10);
    assert_eq!(rows.len(), 4);
    for (_, function, samples) in rows {
        // A few thousand pages are left of each function: five standard deviations are 15 %.
        let off = (samples - wanted).abs();
        assert!(off * 100 < wanted * 15, "{function}: {samples} of {wanted}: {stats:?}");
    }
}

#[test]
fn forks_of_a_large_process_do_not_break_the_cap() {
    let mut window = window(2 << 20);
    let parent = Process::new(7, "/app");
    for page in 0..2_000 {
        window.observe(parent.does(7, 1_000, &[page % 4], fault(page << 12)));
    }
    for child in 100..1_100 {
        tell(&mut window, &parent, 1_100, What::NewProcess { tgid: child });
    }
    tell(&mut window, &parent, 1_200, What::Released { start: 0, bytes: 1000 << 12 });
    assert!(window.bytes() <= 2 << 20);
    window.advance(Nanos::from_secs(4));
    assert!(window.bytes() <= 2 << 20);
    let stats = window.stats().residents;
    assert!(stats.unfollowed_forks > 0, "{stats:?}");
}
