//! What is a leak and what is not, by the shape of the memory over time.

use std::time::Duration;

use proptest::prelude::*;

use crate::collect::Nanos;
use crate::rules::{Cause, Decision, Growth, LeakRule, RuleBook, RuleSet, Spike};
use crate::signals::{MemoryLimit, MemoryUse, Target};

const MIB: f64 = (1 << 20) as f64;

/// More than a MiB a minute for ten minutes, and the limit within half a day.
fn rule() -> LeakRule {
    LeakRule { within: Duration::from_secs(12 * 3600), ..RuleSet::default().leak.unwrap() }
}

fn rules(leak: LeakRule) -> RuleSet {
    RuleSet { leak: Some(leak), ..RuleSet::default() }
}

/// A target that is read every five seconds.
struct Service {
    book: RuleBook,
    now: Nanos,
    limit: Option<u64>,
}

impl Service {
    /// With a limit of 1 GiB.
    fn new(leak: LeakRule) -> Self {
        let book = RuleBook::new(rules(leak));
        Self { book, now: Nanos::from_secs(1000), limit: Some(1 << 30) }
    }

    fn read(&mut self, mib: f64) -> Decision {
        self.read_charged(mib, mib)
    }

    fn read_charged(&mut self, mib: f64, charged: f64) -> Decision {
        self.now = self.now.plus(Duration::from_secs(5));
        let limit = self.limit.map(|bytes| MemoryLimit { bytes, charged: (charged * MIB) as u64 });
        let target = Target::Cgroup { path: "/app".to_owned(), container: None };
        let memory = MemoryUse { target, bytes: (mib * MIB) as u64, limit };
        self.book.decide_leak(self.now, &memory, 50.0)
    }

    /// Reads what `mib` is at each second, and says at which it first fired.
    fn first(&mut self, seconds: u64, mib: impl Fn(f64) -> f64) -> Option<u64> {
        (0..seconds).step_by(5).find(|&at| matches!(self.read(mib(at as f64)), Decision::Fire(_)))
    }
}

fn growth(decision: &Decision) -> Growth {
    match decision {
        Decision::Fire(Spike { cause: Cause::Leak(growth), .. }) => *growth,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_shape_decides() {
    // Two MiB a minute unless it says otherwise; an hour of it.
    let leak = |at: f64| 100.0 + at / 30.0;
    let wave = |at: f64, period: f64| at % period / period;
    type Shape<'a> = (&'a str, bool, &'a dyn Fn(f64) -> f64);
    let shapes: [Shape<'_>; 17] = [
        ("a leak", true, &leak),
        ("a leak that is noisy", true, &|at| leak(at) + 4.0 * wave(at * 7.3, 11.0)),
        ("a leak in small steps", true, &|at| 100.0 + 2.0 * (at / 60.0).floor()),
        ("a leak under a heap that is collected", true, &|at| leak(at) + 50.0 * wave(at, 40.0)),
        ("a leak with one reading that is odd", true, &|at| {
            if (300.0..305.0).contains(&at) { 900.0 } else { leak(at) }
        }),
        ("a leak that gets faster", true, &|at| 100.0 + (at / 200.0).powi(2)),
        ("flat", false, &|_| 100.0),
        ("nothing", false, &|_| 0.0),
        ("noise", false, &|at| 100.0 + 20.0 * wave(at * 7.3, 11.0)),
        ("one step", false, &|at| if at < 1000.0 { 100.0 } else { 600.0 }),
        ("two steps", false, &|at| 100.0 + 200.0 * (at / 900.0).floor().min(2.0)),
        ("a cache that fills in five minutes", false, &|at| 100.0 + at.min(300.0)),
        ("a heap that is collected", false, &|at| 100.0 + 200.0 * wave(at, 100.0)),
        ("a heap that is collected rarely", false, &|at| 100.0 + 200.0 * wave(at, 290.0)),
        ("too slow", false, &|at| 100.0 + at / 70.0),
        ("shrinking", false, &|at| 1000.0 - at / 30.0),
        ("a start that levels off", false, &|at| 100.0 + 300.0 * (1.0 - (-at / 90.0).exp())),
    ];
    for (name, leaks, mib) in shapes {
        let first = Service::new(rule()).first(3600, mib);
        assert_eq!(first.is_some(), leaks, "{name}: {first:?}");
    }
}

#[test]
fn it_takes_the_whole_span() {
    let mut service = Service::new(rule());
    assert_eq!(service.first(3600, |at| 100.0 + at / 30.0), Some(600));
    // Flat at first: the growth must have lasted for the span.
    let mut service = Service::new(rule());
    let first = service.first(7200, |at| 100.0 + (at - 1800.0).max(0.0) / 30.0).unwrap();
    assert!((2280..=2400).contains(&first), "{first}");
}

#[test]
fn an_incident_tells_rate_and_time_to_the_limit() {
    let mut service = Service::new(rule());
    let at = (0..=600).step_by(5).map(|at| service.read(100.0 + f64::from(at) / 30.0)).last();
    let growth = growth(&at.unwrap());
    assert!((growth.rate / (MIB / 30.0) - 1.0).abs() < 1e-3, "{growth:?}");
    assert_eq!((growth.span, growth.limit), (Duration::from_secs(600), Some(1 << 30)));
    assert_eq!(growth.bytes, 120 << 20);
    let left = growth.seconds_to_limit.unwrap();
    assert!((left / (904.0 * 30.0) - 1.0).abs() < 1e-3, "{left}");
    assert_eq!(
        growth.to_string(),
        "2.0 MiB a minute for 10m, now 120.0 MiB; at its limit of 1.0 GiB in 7h 32m"
    );
}

#[test]
fn the_limit_must_be_near_unless_within_is_off() {
    let leak = |at: f64| 100.0 + at / 30.0;
    let with = |limit: Option<u64>, within: u64| {
        let rule = LeakRule { within: Duration::from_secs(within), ..rule() };
        let mut service = Service::new(rule);
        service.limit = limit;
        service.first(1200, leak).is_some()
    };
    // 904 MiB at two a minute: seven and a half hours.
    let hour = 3600;
    assert!(!with(Some(1 << 30), 7 * hour));
    assert!(with(Some(1 << 30), 8 * hour));
    assert!(!with(None, 8 * hour) && !with(Some(1 << 40), 8 * hour));
    assert!(with(None, 0) && with(Some(1 << 40), 0));
    // What others charge to the same limit brings it nearer.
    let rule = LeakRule { within: Duration::from_secs(hour), ..rule() };
    let mut service = Service::new(rule);
    let fired = (0..=600).step_by(5).any(|at| {
        let mib = leak(f64::from(at));
        matches!(service.read_charged(mib, mib + 800.0), Decision::Fire(_))
    });
    assert!(fired);
}

#[test]
fn a_restart_and_a_gap_begin_anew() {
    // It restarts every eight minutes, and never grows for ten.
    let restarts = |at: f64| 100.0 + at % 480.0 / 30.0;
    assert_eq!(Service::new(rule()).first(7200, restarts), None);
    // Not read for twenty minutes: what was known says nothing any more.
    let mut service = Service::new(rule());
    assert_eq!(service.first(500, |at| 100.0 + at / 30.0), None);
    service.now = service.now.plus(Duration::from_secs(1200));
    assert_eq!(service.first(3600, |at| 200.0 + at / 30.0), Some(600));
}

#[test]
fn it_is_quiet_for_its_cooldown_and_under_another_rule_begins_anew() {
    let mut service = Service::new(rule());
    let decisions: Vec<Decision> = (0..6000)
        .step_by(5)
        .map(|at| service.read(100.0 + f64::from(at) / 30.0))
        .filter(|decision| *decision != Decision::Quiet)
        .collect();
    let names: Vec<_> = decisions.iter().map(Decision::name).collect();
    assert_eq!(names.iter().filter(|name| **name == "fire").count(), 2);
    assert_eq!(names[1], "cooldown");
    let longer = LeakRule { span: Duration::from_secs(900), cooldown: Duration::ZERO, ..rule() };
    service.book.replace(rules(longer));
    assert_eq!(service.first(3600, |at| 300.0 + at / 30.0), Some(900));
    service.book.replace(RuleSet { leak: None, ..RuleSet::default() });
    assert_eq!(service.first(3600, |at| 300.0 + at / 30.0), None);
}

#[test]
fn rare_readings_are_enough_if_the_span_holds_ten() {
    let mut service = Service::new(rule());
    let mut decisions = (0..30).map(|at| {
        service.now = service.now.plus(Duration::from_secs(55));
        service.read(100.0 + 2.0 * f64::from(at))
    });
    assert!(decisions.any(|decision| matches!(decision, Decision::Fire(_))));
}

proptest! {
    /// Whatever is read whenever: what fires has grown at the rate, and no more is kept than slots.
    #[test]
    fn only_growth_fires(
        readings in proptest::collection::vec((0_u64..u64::MAX / 64, any::<u32>()), 0..200),
        span in 1_u64..100_000,
    ) {
        let leak = LeakRule {
            span: Duration::from_secs(span),
            within: Duration::ZERO,
            cooldown: Duration::ZERO,
            ..rule()
        };
        let mut floors = super::Floors::default();
        for (time, mib) in readings {
            let memory =
                MemoryUse { target: Target::Host, bytes: u64::from(mib) << 20, limit: None };
            if let Some((growth, rises)) = super::judge(&leak, &mut floors, Nanos(time), &memory) {
                prop_assert!(growth.rate >= leak.rate);
                prop_assert!(rises.iter().all(|rise| *rise > 0.0));
            }
            prop_assert!(floors.floors.len() as u64 <= super::SLOTS);
        }
    }
}
