//! The window as a whole, on made-up observations.

use std::time::Duration;

use proptest::prelude::*;

use super::testing::{PERIOD_NS, Process};
use super::*;
use crate::collect::{Memory, Nanos, WaitCause, What};
use crate::settings::WindowSettings;

fn window(span_seconds: u64, max_bytes: usize, max_stacks: usize) -> Window {
    let span = Duration::from_secs(span_seconds);
    Window::new(&WindowSettings { span, max_bytes, max_stacks, timeline_bytes: 0 }, PERIOD_NS)
}

fn roomy() -> Window {
    window(120, 64 << 20, 1 << 17)
}

fn all(_: &Owner) -> bool {
    true
}

fn seconds(from: u64, to: u64) -> (Nanos, Nanos) {
    (Nanos::from_secs(from), Nanos::from_secs(to))
}

/// The samples of a cut: process, first user address, values.
fn samples(cut: &Cut) -> Vec<(u32, u64, [i64; 2])> {
    cut.samples
        .iter()
        .map(|sample| {
            (sample.owner.tgid, sample.stack.user[0], [sample.values[0], sample.values[1]])
        })
        .collect()
}

fn cut(window: &Window, kind: ProfileKind, from: u64, to: u64) -> Vec<(u32, u64, [i64; 2])> {
    let (from, to) = seconds(from, to);
    samples(&window.cut(kind, &all, from, to))
}

#[test]
fn equal_stacks_of_equal_owners_are_one_sample() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    for ms in [1_000, 1_020, 2_000, 2_020] {
        window.observe(app.runs(ms, &[0x1000, 0x2000]));
    }
    window.observe(app.runs(2_040, &[0x3000]));
    window.observe(Process::new(8, "/app").runs(2_060, &[0x3000]));
    let period = PERIOD_NS as i64;
    assert_eq!(
        cut(&window, ProfileKind::Cpu, 1, 3),
        [(7, 0x1000, [4, 4 * period]), (7, 0x3000, [1, period]), (8, 0x3000, [1, period])]
    );
    assert_eq!(cut(&window, ProfileKind::Cpu, 1, 2), [(7, 0x1000, [2, 2 * period])]);
    assert_eq!(window.stats().stacks, 2);
    assert_eq!(window.stats().owners, 2);
}

#[test]
fn a_cut_has_the_wanted_owners_only() {
    let mut window = roomy();
    window.observe(Process::new(1, "/app/a").runs(1_000, &[1]));
    window.observe(Process::new(2, "/apple").runs(1_000, &[2]));
    let (from, to) = seconds(0, 5);
    let app = |owner: &Owner| owner.cgroup.is_within("/app");
    assert_eq!(samples(&window.cut(ProfileKind::Cpu, &app, from, to)).len(), 1);
    assert_eq!(window.series(ProfileKind::Cpu, &app, from, Nanos::from_secs(2))[1][0], 1);
}

#[test]
fn growth_is_a_sample_and_shrinking_is_none() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    let fates = [
        What::Mmap { bytes: 4096, calls: 1 },
        What::Brk { bytes: 100, calls: 1 },
        What::Mremap { bytes: 10, calls: 1 },
        What::Mmap { bytes: 640, calls: 64 },
        What::Released { start: 4096, bytes: 9 },
    ]
    .map(|what| window.observe(app.does(7, 1_000, &[1], what)));
    assert_eq!(fates[..4], [Fate::Held; 4]);
    assert_eq!(fates[4..], [Fate::NotProfiled]);
    // One call may stand for several.
    assert_eq!(cut(&window, ProfileKind::Mmap, 1, 2), [(7, 1, [67, 4846])]);
}

#[test]
fn hostile_sizes_saturate() {
    let (app, mut window) = (Process::new(7, "/app"), roomy());
    for _ in 0..2 {
        window.observe(app.does(7, 1_000, &[1], What::Mmap { bytes: u64::MAX, calls: 1 }));
    }
    assert_eq!(cut(&window, ProfileKind::Mmap, 1, 2), [(7, 1, [2, i64::MAX])]);
    let last = Process::new(1, "/").does(1, 0, &[1], What::CpuSample);
    let mut last_moment = last.clone();
    last_moment.observation.time = Nanos(u64::MAX);
    assert_eq!(window.observe(last_moment), Fate::Held);
    assert_eq!(window.observe(last), Fate::Late);
    assert_eq!(cut(&window, ProfileKind::Cpu, 0, 5), []);
}

#[test]
fn what_is_older_than_the_span_leaves_and_is_late() {
    let (app, mut window) = (Process::new(7, "/app"), window(10, 64 << 20, 100));
    window.observe(app.runs(1_000, &[1]));
    window.observe(app.runs(10_999, &[2]));
    assert_eq!(cut(&window, ProfileKind::Cpu, 0, 20).len(), 2);
    window.advance(Nanos::from_secs(11));
    assert_eq!(cut(&window, ProfileKind::Cpu, 0, 20).len(), 1);
    assert_eq!(window.observe(app.runs(1_500, &[1])), Fate::Late);
    assert_eq!(window.observe(app.runs(2_000, &[1])), Fate::Held);
    window.advance(Nanos::from_secs(1_000));
    assert_eq!(window.bytes(), 0, "an empty window gives its memory back");
    let stats = window.stats();
    assert_eq!((stats.stacks, stats.owners, stats.buckets), (0, 0, 0));
    assert_eq!((stats.observations.held.cpu, stats.observations.late.cpu), (3, 1));
}

#[test]
fn too_many_stacks_push_old_seconds_out_and_then_count_as_lost() {
    let (app, mut window) = (Process::new(7, "/app"), window(60, 64 << 20, 3));
    for stack in 1..=3 {
        assert_eq!(window.observe(app.runs(1_000, &[stack])), Fate::Held);
    }
    assert_eq!(window.observe(app.runs(2_000, &[4])), Fate::Held);
    assert_eq!(window.observe(app.runs(2_000, &[5])), Fate::Held);
    assert_eq!(window.observe(app.runs(2_000, &[6])), Fate::Held);
    assert_eq!(window.observe(app.runs(2_000, &[7])), Fate::StacksFull);
    assert_eq!(window.observe(app.runs(2_000, &[6])), Fate::Held, "a known stack always fits");
    assert_eq!(window.observe(app.runs(1_000, &[6])), Fate::Evicted);
    let (from, to) = seconds(0, 5);
    let tally = window.tally(from, to);
    assert_eq!((tally.held.cpu, tally.evicted.cpu, tally.stacks_full.cpu), (4, 4, 1));
    assert_eq!(window.stats().evicted_later.cpu, 3);
}

#[test]
fn threads_are_created_in_the_span_and_alive_at_its_end() {
    let (app, mut window) = (Process::new(7, "/app"), window(10, 64 << 20, 100));
    let spawn = |ms, tid| app.does(7, ms, &[u64::from(tid / 100)], What::NewThread { tid });
    let exit = |ms, tid| app.does(tid, ms, &[], What::Exit);
    window.observe(spawn(1_000, 100));
    window.observe(spawn(1_000, 101));
    window.observe(exit(2_000, 999));
    window.advance(Nanos::from_secs(50));
    assert_eq!(cut(&window, ProfileKind::Threads, 49, 51), [(7, 1, [0, 2])], "older than the span");
    window.observe(spawn(52_000, 200));
    window.observe(spawn(53_000, 201));
    window.observe(exit(54_500, 200));
    window.observe(exit(54_500, 100));
    assert_eq!(
        cut(&window, ProfileKind::Threads, 50, 55),
        [(7, 1, [0, 1]), (7, 2, [2, 1])],
        "ended before the end"
    );
    assert_eq!(
        cut(&window, ProfileKind::Threads, 50, 54),
        [(7, 1, [0, 2]), (7, 2, [2, 2])],
        "ended after the end"
    );
    window.observe(app.does(7, 55_000, &[], What::Exec));
    assert_eq!(cut(&window, ProfileKind::Threads, 50, 56), [(7, 2, [2, 0])]);
    window.advance(Nanos::from_secs(70));
    assert_eq!(window.bytes(), 0, "ended threads are forgotten in the end");
}

#[test]
fn a_reused_id_is_not_the_old_thread() {
    let (app, other) = (Process::new(7, "/app"), Process::new(8, "/other"));
    let mut window = roomy();
    window.observe(app.does(7, 1_000, &[1], What::NewThread { tid: 9 }));
    window.observe(app.does(7, 1_000, &[1], What::NewThread { tid: 10 }));
    window.observe(other.does(8, 2_000, &[2], What::NewThread { tid: 9 }));
    window.observe(other.does(8, 2_000, &[3], What::NewProcess { tgid: 10 }));
    assert_eq!(cut(&window, ProfileKind::Threads, 1, 3), [(7, 1, [2, 0]), (8, 2, [1, 1])]);
}

#[test]
fn the_ledger_refuses_what_does_not_fit_and_counts_it() {
    let (app, mut window) = (Process::new(7, "/app"), window(10, 40_000, 1000));
    for tid in 100..1_100 {
        window.observe(app.does(7, 1_000, &[1], What::NewThread { tid }));
    }
    let threads = window.stats().threads;
    assert!(threads.alive > 0, "{threads:?}");
    assert_eq!(threads.alive as u64 + threads.untracked, 1_000, "{threads:?}");
    assert!(window.bytes() <= 40_000);
    let created: i64 = cut(&window, ProfileKind::Threads, 1, 2).iter().map(|it| it.2[0]).sum();
    assert_eq!(created, 1_000, "creations need no ledger");
}

#[test]
fn the_order_does_not_depend_on_hash_seeds_or_on_arrival() {
    let observations: Vec<_> = (0..200_u64)
        .map(|n| Process::new(n as u32 % 13, "/app").runs(1_000 + n, &[n * 7919 % 101, n % 3]))
        .collect();
    let (mut forward, mut backward) = (roomy(), roomy());
    for observation in &observations {
        forward.observe(observation.clone());
    }
    for observation in observations.iter().rev() {
        backward.observe(observation.clone());
    }
    let all_stacks = |window: &Window| {
        let (from, to) = seconds(1, 2);
        let cut = window.cut(ProfileKind::Cpu, &all, from, to);
        cut.samples
            .iter()
            .map(|it| (it.owner.tgid, it.stack.clone(), it.values))
            .collect::<Vec<_>>()
    };
    assert!(all_stacks(&forward).len() > 100);
    assert_eq!(all_stacks(&forward), all_stacks(&backward));
}

/// Something about the memory of a process, by a number.
fn memory_event(number: u32, stack: u64) -> What {
    let start = (stack % 64) << 14;
    let memory = [Memory::Unknown, Memory::Anonymous, Memory::File][stack as usize % 3];
    match number {
        0..=3 => What::Fault { address: start, bytes: 1 + (stack >> 40), memory },
        4 => What::Released { start, bytes: stack >> 30 },
        5 => What::Moved { from: start, to: (stack >> 8) % (1 << 20), bytes: stack >> 44 },
        _ => What::NewProcess { tgid: (stack >> 20) as u32 % 20 },
    }
}

/// What a step of the flood does: at which time, which process, with how deep a stack.
fn flood() -> impl Strategy<Value = Vec<(u64, u32, u64, usize, u32)>> {
    let step = (0..8_000_u64, 0..20_u32, any::<u64>(), 0..130_usize, 0..16_u32);
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn the_cap_holds_and_every_observation_is_counted_once(
        steps in flood(),
        max_bytes in 0..120_000_usize,
        max_stacks in 0..120_usize,
        span in 1..12_u64,
    ) {
        let mut window = window(span, max_bytes, max_stacks);
        let mut given = PerKind::default();
        for (at, (jitter, tgid, stack, depth, what)) in (0_u64..).zip(steps) {
            let process = Process::new(tgid, if tgid % 2 == 0 { "/app" } else { "/other" });
            let number = stack;
            let stack: Vec<u64> = (0..depth as u64).map(|frame| stack.wrapping_mul(frame)).collect();
            let what = match what {
                0..=3 => What::CpuSample,
                4 => What::Mmap { bytes: stack.len() as u64, calls: 1 },
                5 => What::NewThread { tid: 100 + tgid * 8 + depth as u32 % 8 },
                6 => What::Exit,
                7 => What::Exec,
                more => memory_event(more - 8, number),
            };
            if number % 64 == 0 {
                window.pages_gone(tgid, &[number % (1 << 20)]);
                window.resident(tgid, [number >> 44, number >> 50]);
            }
            match what {
                What::Fault { .. } => given.memory += 1,
                What::CpuSample => given.cpu += 1,
                What::Mmap { .. } => given.mmap += 1,
                What::NewThread { .. } => given.threads += 1,
                _ => {}
            }
            let tid = 100 + tgid * 8 + depth as u32 % 8;
            window.observe(process.does(tid, at * 50 + jitter, &stack, what));
            prop_assert!(window.bytes() <= max_bytes, "{} > {max_bytes}", window.bytes());
            prop_assert!(window.stats().stacks <= max_stacks);
        }
        let stats = window.stats();
        let SpanTally { held, evicted, stacks_full, late } = stats.observations;
        for kind in ProfileKind::ALL {
            let counted = held.of(kind) + evicted.of(kind) + stacks_full.of(kind) + late.of(kind);
            prop_assert_eq!(counted, given.of(kind), "{:?}", stats);
        }
        // What the buckets hold is what the tallies say they hold.
        let (from, to) = seconds(0, 1_000);
        let in_window = window.tally(from, to).held;
        for kind in [ProfileKind::Cpu, ProfileKind::Mmap, ProfileKind::Threads] {
            let total = window.cut(kind, &all, from, to).totals()[0];
            prop_assert_eq!(total as u64, in_window.of(kind), "{:?}", kind);
        }
        // Once the threads have ended and the span has passed, nothing is left behind.
        for tgid in 0..20 {
            window.observe(Process::new(tgid, "/app").does(tgid, 100_000, &[], What::Exec));
            window.observe(Process::new(tgid, "/app").does(0, 100_000, &[], What::NewProcess { tgid }));
        }
        window.advance(Nanos::from_secs(200));
        prop_assert_eq!(window.bytes(), 0);
    }

    #[test]
    fn a_base_is_never_more_than_the_whole(
        steps in prop::collection::vec((0..10_000_u64, 0..3_u32, 0..4_u64, 0..10_u32), 1..200),
        onset in 0..12_u64,
    ) {
        let mut window = roomy();
        let mut steps = steps;
        steps.sort_unstable();
        for (ms, tgid, stack, what) in steps {
            let tid = 100 + tgid * 4 + stack as u32;
            let what = match what {
                0 => What::CpuSample,
                1 => What::Mmap { bytes: 1 + stack, calls: 1 },
                2 => What::NewThread { tid },
                3 => What::Exit,
                4 | 5 => {
                    What::Fault { address: (stack + ms % 4) << 12, bytes: 1 + ms, memory: Memory::File }
                }
                6 => What::Released { start: stack << 12, bytes: 4096 },
                7 => What::Wait { waits: 1 + stack, number: 7, cause: WaitCause::Io, lock: stack },
                8 => What::WaitEnd { number: 7 },
                _ => What::NewProcess { tgid: (tgid + 1) % 3 },
            };
            window.observe(Process::new(tgid, "/app").does(tid, ms, &[stack], what));
        }
        let (from, to) = seconds(2, 9);
        for kind in ProfileKind::ALL {
            let whole = window.cut(kind, &all, from, to);
            let base = window.cut_base(kind, &all, from, Nanos::from_secs(onset.clamp(2, 9)), to);
            for sample in &base.samples {
                let same = whole.samples.iter().find(|it| {
                    (&it.owner, &it.stack, it.detail) == (&sample.owner, &sample.stack, sample.detail)
                });
                let values = same.map_or(Values::default(), |same| same.values);
                prop_assert!(sample.values.iter().zip(values).all(|(base, whole)| *base <= whole));
            }
        }
    }
}
