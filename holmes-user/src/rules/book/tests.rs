//! Every boundary of the rules, and what holds for any signal.

use proptest::prelude::*;

use super::*;
use crate::rules::RING_LEN;

const OFF: Rule = Rule { min: 0.0, diff: 0.0, abs: 0.0, max: 0.0, cooldown: Duration::ZERO };

fn rules(cpu: Rule) -> RuleSet {
    RuleSet { cpu: Some(cpu), memory: None, threads: None, ..RuleSet::default() }
}

fn app(name: &str) -> Target {
    Target::Cgroup { path: format!("/{name}"), container: None }
}

/// Reads CPU values of one target, five seconds apart.
struct Feed {
    book: RuleBook,
    now: Nanos,
}

impl Feed {
    fn new(rules: RuleSet) -> Self {
        Self { book: RuleBook::new(rules), now: Nanos::from_secs(1000) }
    }

    /// After ten values of `level`.
    fn warm(rules: RuleSet, level: f64) -> Self {
        let mut feed = Self::new(rules);
        for _ in 0..RING_LEN {
            feed.next(level);
        }
        feed
    }

    fn next(&mut self, value: f64) -> Decision {
        self.now = self.now.plus(Duration::from_secs(5));
        self.decide(&app("a"), value)
    }

    fn decide(&mut self, target: &Target, value: f64) -> Decision {
        self.book.decide(self.now, target, Signal::Cpu, value, 50.0)
    }

    fn later(&mut self, duration: Duration) -> &mut Self {
        self.now = self.now.plus(duration);
        self
    }
}

/// In short: what was decided.
fn say(decision: &Decision) -> &'static str {
    match decision {
        Decision::Fire(Spike { cause: Cause::Abs, .. }) => "abs",
        Decision::Fire(Spike { cause: Cause::Diff { .. }, .. }) => "diff",
        other => other.name(),
    }
}

#[test]
fn boundaries_of_a_rule() {
    let rule = Rule { min: 10.0, diff: 25.0, abs: 80.0, ..OFF };
    let below = |value: f64| value.next_down();
    let above = |value: f64| value.next_up();
    let cases = [
        ("abs, at", rule, 70.0, 80.0, "quiet"),
        ("abs, just below", rule, 70.0, below(80.0), "quiet"),
        ("abs, just above", rule, 70.0, above(80.0), "abs"),
        ("abs needs no min", Rule { min: 90.0, ..rule }, 70.0, 81.0, "abs"),
        ("abs needs no diff", Rule { diff: 0.0, ..rule }, 81.0, 81.0, "abs"),
        ("abs off", Rule { abs: 0.0, ..rule }, 1000.0, 1200.0, "quiet"),
        ("diff, at", rule, 40.0, 50.0, "quiet"),
        ("diff, just below", rule, 40.0, below(50.0), "quiet"),
        ("diff, just above", rule, 40.0, above(50.0), "diff"),
        ("diff with decimals", Rule { diff: 0.5, ..rule }, 40.0, 40.3, "diff"),
        ("diff off", Rule { diff: 0.0, ..rule }, 20.0, 79.0, "quiet"),
        ("diff from nothing", rule, 0.0, 10.5, "diff"),
        ("small values are not rounded to a rise", rule, 3.0, 3.0, "quiet"),
        ("min, at", rule, 1.0, 10.0, "quiet"),
        ("min, just below", rule, 1.0, below(10.0), "quiet"),
        ("min, just above", rule, 1.0, above(10.0), "diff"),
        ("min zero", Rule { min: 0.0, ..rule }, 0.0, 0.1, "diff"),
        ("min zero, value zero", Rule { min: 0.0, ..rule }, 0.0, 0.0, "quiet"),
        ("max, at", Rule { max: 90.0, ..rule }, 70.0, 90.0, "above_max"),
        ("max, just below", Rule { max: 90.0, ..rule }, 70.0, below(90.0), "abs"),
        ("max, just above", Rule { max: 90.0, ..rule }, 70.0, above(90.0), "above_max"),
        ("max stops diff", Rule { max: 45.0, ..rule }, 20.0, 50.0, "above_max"),
        ("above max, but no spike", Rule { max: 5.0, ..rule }, 8.0, 8.0, "quiet"),
        ("all off", OFF, 1.0, 1e12, "quiet"),
    ];
    for (name, rule, level, value, expect) in cases {
        assert_eq!(say(&Feed::warm(rules(rule), level).next(value)), expect, "{name}");
    }
}

#[test]
fn the_first_ten_values_never_fire() {
    let mut feed = Feed::new(rules(Rule { abs: 80.0, ..OFF }));
    for _ in 0..RING_LEN {
        assert_eq!(say(&feed.next(99.0)), "warm_up");
    }
    assert_eq!(say(&feed.next(99.0)), "abs");
    let mut feed = Feed::new(rules(Rule { min: 10.0, diff: 25.0, ..OFF }));
    let seen: Vec<_> = (0..4).map(|step| say(&feed.next(20.0 * f64::from(step)))).collect();
    assert_eq!(seen, ["quiet", "warm_up", "warm_up", "warm_up"]);
}

#[test]
fn a_spike_tells_its_rule_and_what_was_before() {
    let rule = Rule { min: 10.0, diff: 25.0, abs: 80.0, ..OFF };
    let mut feed = Feed::new(rules(rule));
    for value in 1..=12 {
        feed.next(f64::from(value));
    }
    let previous = (3..=12).map(f64::from).collect();
    let cause = Cause::Diff { average: 7.5 };
    assert_eq!(
        feed.next(60.0),
        Decision::Fire(Spike { rule: FiredRule::Value(rule), cause, previous })
    );
}

#[test]
fn cooldown_lasts_its_time_and_not_longer() {
    let minute = Duration::from_secs(60);
    let mut feed = Feed::warm(rules(Rule { abs: 80.0, cooldown: minute, ..OFF }), 1.0);
    assert_eq!(say(&feed.decide(&app("a"), 99.0)), "abs");
    assert_eq!(
        say(&feed.later(minute - Duration::from_nanos(1)).decide(&app("a"), 99.0)),
        "cooldown"
    );
    assert_eq!(say(&feed.decide(&app("a"), 80.0)), "quiet");
    assert_eq!(say(&feed.later(Duration::from_nanos(1)).decide(&app("a"), 99.0)), "abs");
    assert_eq!(say(&feed.later(Duration::from_nanos(1)).decide(&app("a"), 99.0)), "cooldown");
}

#[test]
fn cooldown_is_per_target_and_rule() {
    let rule = Rule { abs: 80.0, cooldown: Duration::from_secs(600), ..OFF };
    let mut feed = Feed::new(RuleSet { memory: Some(rule), ..rules(rule) });
    let pairs = [("a", Signal::Cpu), ("b", Signal::Cpu), ("a", Signal::Memory)];
    for _ in 0..RING_LEN {
        for (name, signal) in pairs {
            feed.book.decide(feed.now, &app(name), signal, 1.0, 0.0);
        }
    }
    for expect in ["abs", "cooldown"] {
        for (name, signal) in pairs {
            let decision = feed.book.decide(feed.now, &app(name), signal, 99.0, 0.0);
            assert_eq!(say(&decision), expect, "{name} {signal:?}");
        }
    }
}

#[test]
fn a_clock_that_steps_back_does_not_end_a_cooldown() {
    let mut feed =
        Feed::warm(rules(Rule { abs: 80.0, cooldown: Duration::from_secs(9), ..OFF }), 1.0);
    assert_eq!(say(&feed.decide(&app("a"), 99.0)), "abs");
    let earlier = feed.now.minus(Duration::from_secs(100));
    assert_eq!(say(&feed.book.decide(earlier, &app("a"), Signal::Cpu, 99.0, 0.0)), "cooldown");
}

#[test]
fn captures_stop_above_cpu_max() {
    let cases = [
        (0.0, 100.0, "abs"),
        (90.0, 90.0, "abs"),
        (90.0, 90.0_f64.next_up(), "cpu_max"),
        (90.0, 90.0_f64.next_down(), "abs"),
        (90.0, f64::NAN, "abs"),
    ];
    for (cpu_max, host_cpu, expect) in cases {
        let rules = RuleSet { cpu_max, ..rules(Rule { abs: 80.0, ..OFF }) };
        let mut feed = Feed::warm(rules, 1.0);
        let decision = feed.book.decide(feed.now, &app("a"), Signal::Cpu, 99.0, host_cpu);
        assert_eq!(say(&decision), expect, "cpu_max {cpu_max}, host {host_cpu}");
    }
}

#[test]
fn the_budget_is_for_any_hour_over_all_targets() {
    let set = RuleSet { max_incidents_per_hour: 2, ..rules(Rule { abs: 80.0, ..OFF }) };
    let mut feed = Feed::new(set);
    for name in ["a", "b", "c"] {
        for _ in 0..RING_LEN {
            feed.decide(&app(name), 1.0);
        }
    }
    assert_eq!(say(&feed.decide(&app("a"), 99.0)), "abs");
    let half = Duration::from_secs(1800);
    assert_eq!(say(&feed.later(half).decide(&app("b"), 99.0)), "abs");
    assert_eq!(say(&feed.decide(&app("c"), 99.0)), "budget");
    assert_eq!(say(&feed.later(half - Duration::from_nanos(1)).decide(&app("c"), 99.0)), "budget");
    assert_eq!(say(&feed.later(Duration::from_nanos(1)).decide(&app("c"), 99.0)), "abs");
    assert_eq!(say(&feed.decide(&app("c"), 99.0)), "budget");
    feed.book.replace(RuleSet { max_incidents_per_hour: 3, ..set });
    assert_eq!(say(&feed.decide(&app("c"), 99.0)), "abs");
    feed.book.replace(RuleSet { max_incidents_per_hour: 0, ..set });
    assert_eq!(say(&feed.later(half * 9).decide(&app("c"), 99.0)), "budget");
}

#[test]
fn what_suppresses_longest_is_named() {
    let rule = Rule { abs: 80.0, max: 95.0, cooldown: Duration::from_secs(60), ..OFF };
    let set = RuleSet { cpu_max: 40.0, max_incidents_per_hour: 0, ..rules(rule) };
    assert_eq!(say(&Feed::new(set).next(99.0)), "warm_up");
    assert_eq!(say(&Feed::warm(set, 1.0).next(99.0)), "above_max");
    assert_eq!(say(&Feed::warm(set, 1.0).next(90.0)), "cpu_max");
    let set = RuleSet { cpu_max: 0.0, ..set };
    assert_eq!(say(&Feed::warm(set, 1.0).next(90.0)), "budget");
}

#[test]
fn broken_values_neither_fire_nor_stay() {
    let mut feed = Feed::warm(rules(Rule { min: 1.0, diff: 25.0, abs: 80.0, ..OFF }), 10.0);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -1e300] {
        assert_eq!(feed.next(value), Decision::Quiet, "{value}");
    }
    let Decision::Fire(spike) = feed.next(20.0) else { panic!("a spike") };
    assert_eq!(spike.previous, [10.0; RING_LEN]);
}

#[test]
fn a_reload_keeps_what_is_known() {
    let rule = Rule { abs: 80.0, cooldown: Duration::from_secs(60), ..OFF };
    let mut feed = Feed::warm(rules(rule), 1.0);
    assert_eq!(say(&feed.next(99.0)), "abs");
    feed.book.replace(rules(Rule { abs: 70.0, ..rule }));
    assert_eq!(say(&feed.next(75.0)), "cooldown");
    feed.book.replace(rules(Rule { abs: 70.0, cooldown: Duration::from_secs(1), ..rule }));
    assert_eq!(say(&feed.next(75.0)), "abs");
}

#[test]
fn a_signal_without_a_rule_is_quiet_but_known() {
    let mut feed = Feed::new(RuleSet { cpu: None, ..rules(OFF) });
    for _ in 0..RING_LEN {
        assert_eq!(feed.next(99.0), Decision::Quiet);
    }
    feed.book.replace(rules(Rule { abs: 80.0, ..OFF }));
    assert_eq!(say(&feed.next(99.0)), "abs");
}

#[test]
fn suppressed_values_are_part_of_the_average() {
    let rule = Rule { min: 10.0, diff: 25.0, cooldown: Duration::from_secs(3600), ..OFF };
    let mut feed = Feed::warm(rules(rule), 20.0);
    let seen: Vec<_> = (0..6).map(|_| say(&feed.next(40.0))).collect();
    // Six times 40 and four times 20 make 32; a quarter above that is 40.
    assert_eq!(seen, ["diff", "cooldown", "cooldown", "cooldown", "cooldown", "cooldown"]);
    assert_eq!(feed.next(40.0), Decision::Quiet);
}

#[test]
fn targets_that_are_gone_are_forgotten() {
    let mut feed = Feed::warm(rules(OFF), 1.0);
    feed.later(FORGET_AFTER).decide(&app("b"), 1.0);
    assert_eq!(feed.book.remembered(), 1);
    for number in 0..MAX_REMEMBERED * 2 {
        feed.later(Duration::from_millis(1)).decide(&app(&number.to_string()), 1.0);
    }
    assert_eq!(feed.book.remembered(), MAX_REMEMBERED);
    assert_eq!(feed.book.pushed_out(), MAX_REMEMBERED as u64 + 1);
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let number = || prop_oneof![Just(0.0), 1e-17..1e-9, 0.001..200.0];
    (number(), number(), number(), number(), 0u64..100).prop_map(
        |(min, diff, abs, max, cooldown)| Rule {
            min,
            diff,
            abs,
            max,
            cooldown: Duration::from_secs(cooldown),
        },
    )
}

proptest! {
    #[test]
    fn a_flat_signal_never_fires(rule in any_rule(), level in 0.0..1e6, count in 1usize..40) {
        let rule = if level > rule.abs { Rule { abs: 0.0, ..rule } } else { rule };
        let mut feed = Feed::new(rules(rule));
        for _ in 0..count {
            prop_assert_eq!(feed.next(level), Decision::Quiet);
        }
    }

    #[test]
    fn the_average_excludes_the_current_value(
        values in proptest::collection::vec(0.0..100.0, RING_LEN..30),
        last in 0.0..200.0,
    ) {
        let mut feed = Feed::new(rules(Rule { diff: 25.0, ..OFF }));
        for value in &values {
            feed.next(*value);
        }
        let previous = &values[values.len() - RING_LEN..];
        let mean: f64 = previous.iter().sum::<f64>() / RING_LEN as f64;
        // Too near the boundary, two ways to add may differ.
        let distance: f64 = last - mean * 1.25;
        prop_assume!(distance.abs() > 1e-9);
        match feed.book.decide(feed.now, &app("a"), Signal::Cpu, last, 0.0) {
            Decision::Fire(Spike { cause: Cause::Diff { average }, previous: told, .. }) => {
                prop_assert!(last > mean * 1.25);
                prop_assert!((average - mean).abs() < 1e-9);
                prop_assert_eq!(&told[..], previous);
            }
            // An earlier value may have fired; without a cooldown that changes nothing.
            other => {
                prop_assert_eq!(other, Decision::Quiet);
                prop_assert!(last < mean * 1.25);
            }
        }
    }

    #[test]
    fn suppression_never_lengthens_a_cooldown(
        steps in proptest::collection::vec((1u64..40, any::<bool>()), 1..60),
    ) {
        let cooldown = Duration::from_secs(60);
        let set = rules(Rule { abs: 80.0, cooldown, ..OFF });
        let mut feed = Feed::warm(RuleSet { max_incidents_per_hour: MAX_INCIDENTS, ..set }, 1.0);
        let mut fired: Option<Nanos> = None;
        for (seconds, high) in steps {
            let decision =
                feed.later(Duration::from_secs(seconds)).decide(&app("a"), if high { 99.0 } else { 1.0 });
            let free = fired.is_none_or(|fired| feed.now.since(fired) >= cooldown);
            prop_assert_eq!(say(&decision), match (high, free) {
                (false, _) => "quiet",
                (true, true) => "abs",
                (true, false) => "cooldown",
            });
            if high && free {
                fired = Some(feed.now);
            }
        }
    }
}

/// More than any test spends.
const MAX_INCIDENTS: u32 = 1000;
