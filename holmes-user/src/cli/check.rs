//! Prints what the host allows, as a table for a person.
//!
//! Must not: find anything out (that is `kernel::features`).

use std::io::{self, Write};

use crate::kernel::features::{Finding, State};

/// The widest column of names; longer ones push their line to the right.
const NAME_WIDTH: usize = 22;

/// Prints the findings, and what they add up to. Returns whether the recorder could sample: the
/// exit code is 1 where it could not.
///
/// # Errors
/// `out` failed.
pub fn run(findings: &[Finding], out: &mut impl Write, colour: bool) -> io::Result<bool> {
    for finding in findings {
        line(finding, out, colour)?;
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let fatal: Vec<_> =
        findings.iter().filter(|one| one.is_fatal()).map(|one| one.name.as_str()).collect();
    writeln!(out)?;
    if !fatal.is_empty() {
        writeln!(out, "The recorder cannot sample here: see {}.", fatal.join(", "))?;
        return Ok(false);
    }
    match (count(State::Missing), count(State::Degraded)) {
        (0, 0) => writeln!(out, "The recorder works here, with everything it has.")?,
        (missing, degraded) => writeln!(
            out,
            "The recorder works here; {missing} of {} missing, {degraded} in part.",
            findings.len()
        )?,
    }
    Ok(true)
}

fn line(finding: &Finding, out: &mut impl Write, colour: bool) -> io::Result<()> {
    // Words, not only colours: the table is read in logs and by people who do not see red.
    let (mark, style) = match finding.state {
        State::Ok => ("ok  ", "\x1b[32m"),
        State::Degraded => ("part", "\x1b[33m"),
        State::Missing => ("none", "\x1b[31m"),
    };
    let (on, off) = if colour { (style, "\x1b[0m") } else { ("", "") };
    writeln!(
        out,
        "{on}{mark}{off}  {:NAME_WIDTH$}  {} [{}]",
        finding.name, finding.detail, finding.enables
    )?;
    for (number, text) in finding.fix.iter().flat_map(|fix| fix.lines()).enumerate() {
        writeln!(out, "      {} {text}", if number == 0 { "fix:" } else { "    " })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(findings: &[Finding], colour: bool) -> (bool, String) {
        let mut out = Vec::new();
        let works = run(findings, &mut out, colour).unwrap();
        (works, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_finding_has_a_line_and_its_fix_below() {
        let findings = [
            Finding::ok("kernel", "everything", "6.12.3"),
            Finding::degraded("hidepid", "seeing processes", "on").fix("first\nsecond"),
        ];
        assert_eq!(
            print(&findings, false),
            (
                true,
                "ok    kernel                  6.12.3 [everything]\n\
                 part  hidepid                 on [seeing processes]\n      \
                 fix: first\n           second\n\n\
                 The recorder works here; 0 of 2 missing, 1 in part.\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn only_what_is_essential_and_missing_is_a_failure() {
        let missing = Finding::missing("BTF", "filters", "no file");
        assert!(print(std::slice::from_ref(&missing), false).0);
        let (works, text) = print(&[missing.essential()], false);
        assert!(!works);
        assert!(text.ends_with("The recorder cannot sample here: see BTF.\n"), "{text}");
        let (works, text) = print(&[Finding::ok("BTF", "filters", "there").essential()], false);
        assert!(works && text.contains("with everything it has"));
    }

    #[test]
    fn colour_is_for_terminals() {
        let findings = [Finding::ok("kernel", "everything", "6.12.3")];
        assert!(print(&findings, true).1.contains('\x1b'));
        assert!(!print(&findings, false).1.contains('\x1b'));
    }
}
