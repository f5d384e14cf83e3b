//! Holmes' own log line of a spike, which its users search their logs for.
//!
//! Must not: decide or log; it only writes the text.

use super::Rule;
use crate::signals::Signal;

/// The line of a spike, as Holmes wrote it:
/// `[Holmes] pprof cpu, config_min : 10, config_diff : 25, config_abs : 80, config_max : 0,
/// previous : [13 13 14], current : 95`. Values are rounded to two decimals, which is all that is
/// significant in a percentage.
pub fn holmes_line(signal: Signal, rule: &Rule, previous: &[f64], value: f64) -> String {
    let Rule { min, diff, abs, max, .. } = rule;
    let previous: Vec<_> = previous.iter().map(|value| rounded(*value).to_string()).collect();
    format!(
        "[Holmes] pprof {}, config_min : {min}, config_diff : {diff}, config_abs : {abs}, \
         config_max : {max}, previous : [{}], current : {}",
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
            holmes_line(Signal::Cpu, &rule, &previous, 95.0),
            "[Holmes] pprof cpu, config_min : 10, config_diff : 25, config_abs : 80, \
             config_max : 0, previous : [13 13 13 14.5 0 33.33 0.3], current : 95"
        );
    }

    #[test]
    fn numbers_of_a_rule_are_written_as_given() {
        let rule = Rule { min: 0.001, max: 1e9, ..RuleSet::default().threads.unwrap() };
        let line = holmes_line(Signal::Threads, &rule, &[], 1e300);
        assert!(line.starts_with("[Holmes] pprof threads, config_min : 0.001, "), "{line}");
        assert!(line.contains("config_max : 1000000000, previous : [], current : 1000"), "{line}");
    }
}
