//! Who may import whom in the recorder, and what pure stages must not touch.
//!
//! The order of the stages is the order of the `pub mod` lines in `holmes-user/src/lib.rs`, the
//! one place where it is written down.
//!
//! Must not: know file contents beyond names.

use super::Finding;
use super::files::test_files;
use super::source;
use super::tree::Tree;

const SOURCES: &str = "holmes-user/src/";

/// Only these know aya.
const KNOW_AYA: [&str; 2] = ["kernel", "collect"];

/// Stages whose time and data come in as arguments, so that a recording can be replayed.
const PURE: [&str; 4] = ["rules", "window", "profile", "capture"];

/// What they must not touch.
const IMPURE: [&str; 5] = ["std::fs", "std::net", "Instant::now", "SystemTime::now", "tokio"];

/// Plain values that `cli` fills in and every stage may be given.
const SHARED: &str = "settings";

/// Wires the stages: `pipeline.rs` and the files of its folder; imported by none.
const PIPELINE: &str = "pipeline";

/// Reads the command line; imported by none, not even by `pipeline`.
const CLI: &str = "cli";

/// Every finding of this kind.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let order = order(tree.text("holmes-user/src/lib.rs").unwrap_or_default());
    let tests = test_files(tree);
    let mut findings = Vec::new();
    for (path, text) in tree.texts(SOURCES, ".rs") {
        let Some(stage) = stage_of(path).filter(|stage| order.iter().any(|name| name == stage))
        else {
            continue;
        };
        let code = source::code(text);
        findings.extend(imports(path, stage, &code, &order));
        let is_test = tests.iter().any(|test| path.starts_with(test.as_str()));
        findings.extend(aya(path, stage, &code));
        if PURE.contains(&stage) && !is_test {
            findings.extend(impure(path, stage, &source::without_tests(&code)));
        }
    }
    findings
}

fn order(lib: &str) -> Vec<String> {
    let declared = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    source::code(lib).lines().filter_map(declared).collect()
}

fn stage_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix(SOURCES)?;
    Some(below.split('/').next()?.trim_end_matches(".rs"))
}

fn imports(path: &str, stage: &str, code: &str, order: &[String]) -> Vec<Finding> {
    let place = |name: &str| order.iter().position(|stage| stage == name);
    let mut findings = Vec::new();
    for (line, name) in crate_names(code) {
        let Some(theirs) = place(&name).filter(|_| name != stage && name != SHARED) else {
            continue;
        };
        let message = if name == CLI || name == PIPELINE {
            format!("`{stage}` imports `{name}`, which none may: move what is needed to a stage")
        } else if [SHARED, CLI, PIPELINE].contains(&stage) || place(stage) > Some(theirs) {
            continue;
        } else {
            format!(
                "`{stage}` imports the later stage `{name}`: hand the value in, or move its type \
                 to `{stage}`"
            )
        };
        findings.push(Finding::new(path, line, message));
    }
    findings
}

/// First names behind `crate::`, those in braces too, with their lines.
fn crate_names(code: &str) -> Vec<(usize, String)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, mark) in code.match_indices("crate::") {
        if code[..at].ends_with(is_name) {
            continue; // holmes_crate::
        }
        let behind = &code[at + mark.len()..];
        let mut depth = 0usize;
        let mut expected = true;
        let mut offset = 0;
        while let Some(c) = behind[offset..].chars().next() {
            if is_name(c) {
                let word = &behind[offset..];
                let length = word.find(|c: char| !is_name(c)).unwrap_or(word.len());
                if expected {
                    let line = code[..at + mark.len() + offset].matches('\n').count() + 1;
                    names.push((line, word[..length].to_owned()));
                }
                expected = false;
                offset += length;
                if depth == 0 {
                    break;
                }
                continue;
            }
            match c {
                '{' => depth += 1,
                '}' if depth > 1 => depth -= 1,
                '}' | ';' => break,
                ',' if depth == 1 => expected = true,
                _ if depth == 0 => break,
                _ => {}
            }
            offset += c.len_utf8();
        }
    }
    names
}

fn aya(path: &str, stage: &str, code: &str) -> Vec<Finding> {
    if KNOW_AYA.contains(&stage) {
        return Vec::new();
    }
    let found = ["aya", "aya_log", "aya_obj"].map(|name| source::lines_with(code, name)).concat();
    let message = "only `kernel` and `collect` know aya: give them a function for it";
    found.into_iter().map(|line| Finding::new(path, line, message)).collect()
}

fn impure(path: &str, stage: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in IMPURE {
        for line in source::lines_with(code, name) {
            let message = format!(
                "`{name}` in `{stage}`, which does no I/O and reads no clock: take the time or the \
                 data as an argument"
            );
            findings.push(Finding::new(path, line, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [usize; 0] = [];

    const LIB: &str = "//! x\npub mod settings;\npub mod kernel;\npub mod window;\n\
                       pub mod rules;\npub mod store;\npub mod cli;\npub mod pipeline;\n";

    fn found(path: &str, text: &str) -> Vec<usize> {
        let tree = Tree::of(&[("holmes-user/src/lib.rs", LIB), (path, text)]);
        check(&tree).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_stage_imports_only_those_before_it() {
        assert_eq!(found("holmes-user/src/rules/mod.rs", "use crate::window::Cut;\n"), NOTHING);
        assert_eq!(found("holmes-user/src/window/mod.rs", "use crate::rules::Rule;\n"), [1]);
        assert_eq!(found("holmes-user/src/window/mod.rs", "// crate::rules\n"), NOTHING);
        assert_eq!(found("holmes-user/src/window/mod.rs", "use crate::window::Cut;\n"), NOTHING);
    }

    #[test]
    fn names_in_braces_and_in_paths_are_found() {
        let text = "use crate::{\n    kernel::{Probe, store},\n    rules,\n};\n\
                    fn a() -> crate::store::Folder {}\n";
        assert_eq!(found("holmes-user/src/window/cut.rs", text), [3, 5]);
    }

    #[test]
    fn none_imports_the_wiring() {
        assert_eq!(found("holmes-user/src/store/mod.rs", "use crate::pipeline::X;\n"), [1]);
        assert_eq!(found("holmes-user/src/pipeline.rs", "use crate::{store, cli};\n"), [1]);
        assert_eq!(found("holmes-user/src/pipeline.rs", "use crate::{store, kernel};\n"), NOTHING);
        let live = "holmes-user/src/pipeline/live.rs";
        assert_eq!(found(live, "use crate::{store, pipeline::balance};\n"), NOTHING);
        assert_eq!(found(live, "use crate::cli;\n"), [1]);
        assert_eq!(
            found("holmes-user/src/kernel/mod.rs", "use crate::settings::Watch;\n"),
            NOTHING
        );
        assert_eq!(found("holmes-user/src/settings.rs", "use crate::rules::Rule;\n"), NOTHING);
        assert_eq!(found("holmes-user/src/main.rs", "use holmes_user::cli;\n"), NOTHING);
    }

    #[test]
    fn only_two_stages_know_aya() {
        assert_eq!(found("holmes-user/src/kernel/mod.rs", "use aya::Ebpf;\n"), NOTHING);
        assert_eq!(found("holmes-user/src/window/mod.rs", "// aya\nuse aya::Ebpf;\n"), [2]);
    }

    #[test]
    fn pure_stages_take_time_and_data_as_arguments() {
        let text = "fn a() { std::fs::read(b); }\nfn c() { Instant::now(); }\n\
                    #[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(found("holmes-user/src/window/mod.rs", text), [1, 2]);
        assert_eq!(found("holmes-user/src/store/mod.rs", text), NOTHING);
    }
}
