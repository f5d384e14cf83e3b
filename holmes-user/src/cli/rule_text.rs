//! The grammar of `--rule`: `SIGNAL=min:10,diff:25,abs:80,max:0,cooldown:1m`, or `SIGNAL=off`.
//!
//! Must not: know defaults; what is not mentioned stays as it is.

use crate::settings::{RuleChange, RuleEdit};
use crate::signals::Signal;

use super::suggest;
use super::values::{COOLDOWN, RULE_NUMBER};

/// The parts of a rule, in Holmes' order.
pub(super) const PARTS: [&str; 5] = ["min", "diff", "abs", "max", "cooldown"];

/// The signal called `name`.
pub(super) fn signal(name: &str) -> Result<Signal, String> {
    Signal::ALL.into_iter().find(|signal| signal.name() == name).ok_or_else(|| {
        let known = Signal::ALL.map(Signal::name);
        let hint = suggest::nearest(name, &known).map(suggest::did_you_mean).unwrap_or_default();
        format!("`{name}` is no signal; known: {}{hint}", known.join(", "))
    })
}

/// Reads one `--rule`.
///
/// # Errors
/// A message that names the part that is wrong and what is allowed there.
pub(super) fn parse(text: &str) -> Result<RuleEdit, String> {
    let Some((name, numbers)) = text.split_once('=') else {
        return Err(
            "has no `=`: write SIGNAL=min:10,diff:25,abs:80,cooldown:1m, or SIGNAL=off".to_owned()
        );
    };
    let signal = signal(name.trim())?;
    if numbers.trim() == "off" {
        return Ok(RuleEdit { signal, change: RuleChange::Off });
    }
    let (mut min, mut diff, mut abs, mut max, mut cooldown) = (None, None, None, None, None);
    for part in numbers.split(',') {
        let Some((key, value)) = part.split_once(':') else {
            return Err(format!(
                "`{}` has no `:`: write PART:VALUE with a part of {}, or {name}=off",
                part.trim(),
                PARTS.join(", ")
            ));
        };
        let (key, value) = (key.trim(), value.trim());
        let wrong = |problem: String| format!("`{key}:{value}` {problem}");
        let twice = match key {
            "min" => min.replace(RULE_NUMBER.parse(value).map_err(wrong)?).is_some(),
            "diff" => diff.replace(RULE_NUMBER.parse(value).map_err(wrong)?).is_some(),
            "abs" => abs.replace(RULE_NUMBER.parse(value).map_err(wrong)?).is_some(),
            "max" => max.replace(RULE_NUMBER.parse(value).map_err(wrong)?).is_some(),
            "cooldown" => cooldown.replace(COOLDOWN.parse(value).map_err(wrong)?).is_some(),
            _ => {
                let hint =
                    suggest::nearest(key, &PARTS).map(suggest::did_you_mean).unwrap_or_default();
                return Err(format!(
                    "`{key}` is no part of a rule; known: {}{hint}",
                    PARTS.join(", ")
                ));
            }
        };
        if twice {
            return Err(format!("`{key}` is given twice: keep one"));
        }
    }
    Ok(RuleEdit { signal, change: RuleChange::Set { min, diff, abs, max, cooldown } })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::RuleSet;

    #[test]
    fn a_rule_changes_what_it_names_and_nothing_else() {
        let mut rules = RuleSet::default();
        let before = rules.cpu.unwrap();
        parse("cpu=min:12.5,cooldown:30s").unwrap().apply(&mut rules);
        let after = rules.cpu.unwrap();
        assert_eq!(after.min, 12.5);
        assert_eq!(after.cooldown, Duration::from_secs(30));
        assert_eq!((after.diff, after.abs, after.max), (before.diff, before.abs, before.max));
        assert_eq!(rules.memory, RuleSet::default().memory);
    }

    #[test]
    fn off_switches_off_and_a_number_on_again() {
        let mut rules = RuleSet::default();
        parse("threads=off").unwrap().apply(&mut rules);
        assert_eq!(rules.threads, None);
        parse("threads=abs:500").unwrap().apply(&mut rules);
        let rule = rules.threads.unwrap();
        assert_eq!(rule.abs, 500.0);
        assert_eq!(rule.min, RuleSet::default().threads.unwrap().min);
    }

    #[test]
    fn errors_name_the_part_and_what_is_allowed() {
        for (text, message) in [
            ("cpu", "has no `=`: write SIGNAL=min:10,diff:25,abs:80,cooldown:1m, or SIGNAL=off"),
            ("cpi=off", "`cpi` is no signal; known: cpu, memory, threads; did you mean `cpu`?"),
            (
                "cpu=",
                "`` has no `:`: write PART:VALUE with a part of min, diff, abs, max, cooldown, or cpu=off",
            ),
            ("cpu=min:x", "`min:x` is no number; allowed: a number from 0 to 1000000000"),
            ("cpu=min:-1", "`min:-1` is out of range; allowed: a number from 0 to 1000000000"),
            ("cpu=abs:NaN", "`abs:NaN` is out of range; allowed: a number from 0 to 1000000000"),
            (
                "cpu=dif:25",
                "`dif` is no part of a rule; known: min, diff, abs, max, cooldown; did you mean `diff`?",
            ),
            ("cpu=min:1,min:2", "`min` is given twice: keep one"),
            (
                "cpu=cooldown:60",
                "`cooldown:60` has no unit: write 60s or 60ms; allowed: 0s to 7days",
            ),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_grammar(text in "\\PC{0,40}|(cpu|memory)=([a-z]{0,8}:[-0-9.a-z]{0,6},?){0,4}") {
            if let Ok(edit) = parse(&text) {
                proptest::prop_assert!(text.contains(edit.signal.name()));
            }
        }
    }
}
