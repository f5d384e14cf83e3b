//! The grammar of `--rule`: `SIGNAL=min:10,diff:25,abs:80,max:0,cooldown:1m`, or `SIGNAL=off`; `leak`
//! and `psi` have other parts.
//!
//! Must not: know defaults; what is not mentioned stays as it is.

use crate::settings::{RuleChange, RuleEdit};
use crate::signals::Signal;

use super::suggest;
use super::values::{
    COOLDOWN, LEAK_FOR, LEAK_RATE, LEAK_WITHIN, PSI_STALL, PSI_WINDOW, RULE_NUMBER,
};

/// The parts of a value's rule, in Holmes' order.
pub(super) const PARTS: [&str; 5] = ["min", "diff", "abs", "max", "cooldown"];

/// The parts of the rule for leaks.
pub(super) const LEAK_PARTS: [&str; 4] = ["rate", "for", "within", "cooldown"];

/// The parts of the rule for early warnings.
pub(super) const PSI_PARTS: [&str; 4] = ["stall", "window", "min", "cooldown"];

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
    let change = match signal {
        Signal::Cpu | Signal::Memory | Signal::Threads | Signal::Goroutines => {
            value_change(name, numbers)
        }
        Signal::Leak => leak_change(name, numbers),
        Signal::Psi => psi_change(name, numbers),
    };
    Ok(RuleEdit { signal, change: change? })
}

fn value_change(name: &str, numbers: &str) -> Result<RuleChange, String> {
    let (mut min, mut diff, mut abs, mut max, mut cooldown) = (None, None, None, None, None);
    each_part(name, numbers, &PARTS, |key, value| match key {
        "min" => put(&mut min, RULE_NUMBER.parse(value)),
        "diff" => put(&mut diff, RULE_NUMBER.parse(value)),
        "abs" => put(&mut abs, RULE_NUMBER.parse(value)),
        "max" => put(&mut max, RULE_NUMBER.parse(value)),
        _ => put(&mut cooldown, COOLDOWN.parse(value)),
    })?;
    Ok(RuleChange::Set { min, diff, abs, max, cooldown })
}

fn leak_change(name: &str, numbers: &str) -> Result<RuleChange, String> {
    let (mut rate, mut span, mut within, mut cooldown) = (None, None, None, None);
    each_part(name, numbers, &LEAK_PARTS, |key, value| match key {
        "rate" => put(&mut rate, LEAK_RATE.parse(value)),
        "for" => put(&mut span, LEAK_FOR.parse(value)),
        "within" => put(&mut within, LEAK_WITHIN.parse(value)),
        _ => put(&mut cooldown, COOLDOWN.parse(value)),
    })?;
    Ok(RuleChange::SetLeak { rate, span, within, cooldown })
}

fn psi_change(name: &str, numbers: &str) -> Result<RuleChange, String> {
    let (mut stall, mut window, mut min, mut cooldown) = (None, None, None, None);
    each_part(name, numbers, &PSI_PARTS, |key, value| match key {
        "stall" => put(&mut stall, PSI_STALL.parse(value)),
        "window" => put(&mut window, PSI_WINDOW.parse(value)),
        "min" => put(&mut min, RULE_NUMBER.parse(value)),
        _ => put(&mut cooldown, COOLDOWN.parse(value)),
    })?;
    Ok(RuleChange::SetPsi { stall, window, min, cooldown })
}

/// Hands each part of `known` to `put`, which says whether it had been given before.
fn each_part(
    name: &str,
    numbers: &str,
    known: &[&'static str],
    mut put: impl FnMut(&'static str, &str) -> Result<bool, String>,
) -> Result<(), String> {
    for part in numbers.split(',') {
        let Some((key, value)) = part.split_once(':') else {
            return Err(format!(
                "`{}` has no `:`: write PART:VALUE with a part of {}, or {name}=off",
                part.trim(),
                known.join(", ")
            ));
        };
        let (key, value) = (key.trim(), value.trim());
        let Some(known) = known.iter().find(|known| **known == key) else {
            let hint = suggest::nearest(key, known).map(suggest::did_you_mean).unwrap_or_default();
            return Err(format!(
                "`{key}` is no part of a rule for {name}; known: {}{hint}",
                known.join(", ")
            ));
        };
        if put(known, value).map_err(|problem| format!("`{key}:{value}` {problem}"))? {
            return Err(format!("`{key}` is given twice: keep one"));
        }
    }
    Ok(())
}

/// Puts a value in its place; whether there was one already.
fn put<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<bool, String> {
    Ok(place.replace(value?).is_some())
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
    fn leaks_and_warnings_have_parts_of_their_own() {
        let (secs, mut rules) = (Duration::from_secs, RuleSet::default());
        parse("leak=rate:64KiB/s,for:6s,within:0").unwrap().apply(&mut rules);
        let leak = rules.leak.unwrap();
        assert_eq!((leak.rate, leak.span, leak.within), (65_536.0, secs(6), secs(0)));
        assert_eq!(leak.cooldown, RuleSet::default().leak.unwrap().cooldown);
        parse("psi=stall:1s,min:80").unwrap().apply(&mut rules);
        let psi = rules.psi.unwrap();
        assert_eq!((psi.stall, psi.window, psi.min), (secs(1), secs(2), 80.0));
        parse("leak=off").unwrap().apply(&mut rules);
        parse("psi=off").unwrap().apply(&mut rules);
        assert_eq!((rules.leak, rules.psi), (None, None));
        parse("leak=for:1h").unwrap().apply(&mut rules);
        assert_eq!(rules.leak.unwrap().rate, RuleSet::default().leak.unwrap().rate);
    }

    #[test]
    fn errors_name_the_part_and_what_is_allowed() {
        for (text, message) in [
            ("cpu", "has no `=`: write SIGNAL=min:10,diff:25,abs:80,cooldown:1m, or SIGNAL=off"),
            (
                "cpi=off",
                "`cpi` is no signal; known: cpu, memory, threads, goroutines, leak, psi; did you mean `cpu`?",
            ),
            (
                "cpu=",
                "`` has no `:`: write PART:VALUE with a part of min, diff, abs, max, cooldown, or cpu=off",
            ),
            ("cpu=min:x", "`min:x` is no number; allowed: a number from 0 to 1000000000"),
            ("cpu=min:-1", "`min:-1` is out of range; allowed: a number from 0 to 1000000000"),
            ("cpu=abs:NaN", "`abs:NaN` is out of range; allowed: a number from 0 to 1000000000"),
            (
                "cpu=dif:25",
                "`dif` is no part of a rule for cpu; known: min, diff, abs, max, cooldown; did you mean `diff`?",
            ),
            ("cpu=min:1,min:2", "`min` is given twice: keep one"),
            (
                "cpu=cooldown:60",
                "`cooldown:60` has no unit: write 60s or 60ms; allowed: 0s to 7days",
            ),
            (
                "leak=rate:1MiB",
                "`rate:1MiB` is no speed: write a size and s, m, h or d, as 1MiB/m or 64KiB/s; \
                 allowed: 1.0 KiB/d to 1.0 TiB/s",
            ),
            ("leak=for:500ms", "`for:500ms` is out of range; allowed: 1s to 7days"),
            (
                "leak=min:10",
                "`min` is no part of a rule for leak; known: rate, for, within, cooldown",
            ),
            ("psi=window:20s", "`window:20s` is out of range; allowed: 500ms to 10s"),
            ("psi=stall:300ms,stall:1s", "`stall` is given twice: keep one"),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_grammar(text in "\\PC{0,40}|(cpu|leak|psi)=([a-z]{0,8}:[-0-9.a-zM/]{0,6},?){0,4}") {
            if let Ok(edit) = parse(&text) {
                proptest::prop_assert!(text.contains(edit.signal.name()));
            }
        }
    }
}
