//! Holmes' own log line of a spike, which its users search their logs for.
//!
//! Must not: decide or log; it only writes the text.

use super::{FiredRule, LeakRule, PsiRule, Rule};
use crate::signals::Signal;

/// The line of a spike, as Holmes wrote it:
/// `[Holmes] pprof cpu, config_min : 10, config_diff : 25, config_abs : 80, config_max : 0,
/// previous : [13 13 14], current : 95`. Values are rounded to two decimals, which is all that is
/// significant in a percentage.
///
/// A leak's line has bytes per second and seconds for numbers, that of an early warning seconds and
/// percent.
pub fn holmes_line(signal: Signal, rule: &FiredRule, previous: &[f64], value: f64) -> String {
    let config = match rule {
        FiredRule::Value(Rule { min, diff, abs, max, .. }) => format!(
            "config_min : {min}, config_diff : {diff}, config_abs : {abs}, config_max : {max}"
        ),
        FiredRule::Leak(LeakRule { rate, span, within, .. }) => format!(
            "config_rate : {}, config_for : {}, config_within : {}",
            rounded(*rate),
            span.as_secs_f64(),
            within.as_secs_f64()
        ),
        FiredRule::Psi(PsiRule { stall, window, min, .. }) => format!(
            "config_stall : {}, config_window : {}, config_min : {min}",
            stall.as_secs_f64(),
            window.as_secs_f64()
        ),
    };
    let previous: Vec<_> = previous.iter().map(|value| rounded(*value).to_string()).collect();
    format!(
        "[Holmes] pprof {}, {config}, previous : [{}], current : {}",
        signal.name(),
        previous.join(" "),
        rounded(value),
    )
}

/// To two decimals; numbers too large for decimals stay as they are.
fn rounded(value: f64) -> f64 {
    let scaled = (value * 100.0).round() / 100.0;
    if scaled.is_finite() { scaled } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RuleSet;

    #[test]
    fn the_line_is_holmes_own() {
        let rule = RuleSet::default().cpu.unwrap();
        let previous = [13.0, 13.0, 12.996, 14.5, 0.0, 33.333_333, 0.1 + 0.2];
        assert_eq!(
            holmes_line(Signal::Cpu, &FiredRule::Value(rule), &previous, 95.0),
            "[Holmes] pprof cpu, config_min : 10, config_diff : 25, config_abs : 80, \
             config_max : 0, previous : [13 13 13 14.5 0 33.33 0.3], current : 95"
        );
    }

    #[test]
    fn leaks_and_warnings_have_their_own_numbers() {
        let rules = RuleSet::default();
        let leak = FiredRule::Leak(rules.leak.unwrap());
        assert_eq!(
            holmes_line(Signal::Leak, &leak, &[20_000.0, 21_000.5], 20_500.125),
            "[Holmes] pprof leak, config_rate : 17476.27, config_for : 600, config_within : 21600, \
             previous : [20000 21000.5], current : 20500.13"
        );
        let psi = FiredRule::Psi(rules.psi.unwrap());
        assert_eq!(
            holmes_line(Signal::Memory, &psi, &[91.0], 92.0),
            "[Holmes] pprof memory, config_stall : 0.3, config_window : 2, config_min : 50, \
             previous : [91], current : 92"
        );
    }

    #[test]
    fn numbers_of_a_rule_are_written_as_given() {
        let rule = Rule { min: 0.001, max: 1e9, ..RuleSet::default().threads.unwrap() };
        let line = holmes_line(Signal::Threads, &FiredRule::Value(rule), &[], 1e300);
        assert!(line.starts_with("[Holmes] pprof threads, config_min : 0.001, "), "{line}");
        assert!(line.contains("config_max : 1000000000, previous : [], current : 1000"), "{line}");
    }
}
