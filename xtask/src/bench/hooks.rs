//! What the kernel's hooks cost that the probes could be attached to, when nothing is: no probe on one can
//! cost less, whatever it does.
//!
//! Must not: measure the recorder.

use anyhow::{Context, Result};

use super::listener::{Listener, Stream};
use super::session::{Session, program};
use super::table::{Row, Table, Unit};

const PART: &str = "hooks";

/// Measures, and adds its rows.
///
/// # Errors
/// When the workload fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    let hooks = session.c_program("hooks", &[])?;
    for kind in ["fault", "mmap"] {
        let turns = session.scale(30, 10);
        let mut work =
            Listener::start(&mut program(&hooks, &[kind, &turns.to_string()]), Stream::Output)?;
        let mut all: Vec<(String, Vec<f64>)> = Vec::new();
        for _ in 0..turns {
            let line = work.hear("turn", session)?;
            for (hook, percent) in read(&line).with_context(|| format!("it said `{line}`"))? {
                match all.iter_mut().find(|(name, _)| *name == hook) {
                    Some((_, percents)) => percents.push(percent),
                    None => all.push((hook, vec![percent])),
                }
            }
        }
        for (hook, percents) in all {
            let row = Row::of(format!("{kind}-bound work, {hook}"), Unit::Percent, &percents);
            table.add(PART, row.note("nothing is done there"));
        }
    }
    Ok(())
}

/// Reads `turn HOOK=PERCENT ...`.
fn read(line: &str) -> Option<Vec<(String, f64)>> {
    let pairs = line.strip_prefix("turn ")?.split(' ');
    pairs
        .map(|pair| {
            let (hook, percent) = pair.split_once('=')?;
            Some((hook.to_owned(), percent.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_a_number_for_each_hook() {
        let [(first, slower), (second, absent)] = &read("turn a=1.50 b=nan").unwrap()[..] else {
            panic!("two hooks");
        };
        assert_eq!((first.as_str(), *slower, second.as_str()), ("a", 1.5, "b"));
        assert!(absent.is_nan());
        assert_eq!(read("turn a"), None);
        assert_eq!(read("done"), None);
    }
}
