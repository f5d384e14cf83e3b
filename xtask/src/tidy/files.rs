//! What holds for every file: length, first lines, module names, no unfinished work, no path of
//! one machine, no panic on purpose.
//!
//! Must not: know stages.

use super::Finding;
use super::source;
use super::tree::Tree;

/// Lines of a file that still has one job.
const MAX_LINES: usize = 400;

/// Files that may be longer, each with its reason. Empty, and meant to stay so.
const LONGER: [(&str, &str); 0] = [];

/// Names that say nothing of what is inside.
const ROOMS_FOR_EVERYTHING: [&str; 6] = ["utils", "util", "helpers", "helper", "misc", "common"];

/// Every finding of this kind.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("", "") {
        findings.extend(machine_paths(path, text));
        if is_written_by_hand(path) {
            findings.extend(length(path, text));
            findings.extend(unfinished(path, text));
        }
    }
    let test_files = test_files(tree);
    for (path, text) in tree.texts("", ".rs") {
        if !text.starts_with("//!") {
            let message = "begin the file with `//!`: what it does and what it must not do";
            findings.push(Finding::new(path, 1, message));
        }
        findings.extend(name(path));
        let panics_matter =
            path.starts_with("holmes-user/src/") || path.starts_with("holmes-common/src/");
        if panics_matter && !test_files.iter().any(|test| path.starts_with(test.as_str())) {
            findings.extend(panics(path, text));
        }
    }
    findings
}

fn is_written_by_hand(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (_, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    // The licence and lock files are not ours to shorten; fixtures are recorded, not written.
    ["rs", "c", "go", "py", "sh", "toml", "md", "yaml"].contains(&ending)
        && !path.starts_with("tests/fixtures/")
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    let allowed = LONGER.iter().any(|(long, _)| *long == path);
    (lines > MAX_LINES && !allowed).then(|| {
        let message = format!("{lines} lines, at most {MAX_LINES}: split the file by what it does");
        Finding::new(path, MAX_LINES + 1, message)
    })
}

fn unfinished(path: &str, text: &str) -> Vec<Finding> {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|half| half.concat());
    let macros = [["to", "do!"], ["unimple", "mented!"]].map(|half| half.concat());
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mark = marks.iter().find(|mark| !source::lines_with(line, mark).is_empty());
        let found = mark.or_else(|| macros.iter().find(|name| line.contains(name.as_str())));
        if let Some(found) = found {
            let message = format!("`{found}`: finish it, or open an issue and remove the mark");
            findings.push(Finding::new(path, index + 1, message));
        }
    }
    findings
}

/// Folders that exist on one developer's machine only.
fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let folders = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for folder in &folders {
            let begins_a_path = line.match_indices(folder.as_str()).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.})]>*/".contains(c))
                    && line[at + folder.len()..].starts_with(|c: char| c.is_alphanumeric())
            });
            if begins_a_path {
                let message = format!("`{folder}...` is a path of one machine: make it relative");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

fn name(path: &str) -> Option<Finding> {
    // holmes-common is a crate with one promise: what crosses the kernel border.
    let below = path.strip_prefix("holmes-common/").unwrap_or(path);
    let mut parts = below.split('/').map(|part| part.trim_end_matches(".rs"));
    let part = parts.find(|part| ROOMS_FOR_EVERYTHING.contains(part))?;
    let message = format!("`{part}` says nothing: name the module by its one job");
    Some(Finding::new(path, 1, message))
}

/// Files that are tests as a whole: declared with `#[cfg(test)] mod name;`, or called `tests.rs` or
/// `..._tests.rs` (declared with a `#[path]`). Gives path prefixes.
pub fn test_files(tree: &Tree) -> Vec<String> {
    let mut tests = Vec::new();
    for (path, text) in tree.texts("", ".rs") {
        if path.ends_with("/tests.rs") || path.ends_with("_tests.rs") {
            tests.push(path.to_owned());
            continue;
        }
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => path.trim_end_matches(".rs"),
        };
        let code = source::code(text);
        let mut after_mark = false;
        for line in code.lines().map(str::trim) {
            let declared = line.rsplit_once("mod ").and_then(|(_, name)| name.strip_suffix(';'));
            if let (Some(name), true) = (declared, after_mark || line.contains("#[cfg(test)]")) {
                tests.push(format!("{folder}/{name}.rs"));
                tests.push(format!("{folder}/{name}/"));
            }
            after_mark = line.ends_with("#[cfg(test)]") || (after_mark && line.starts_with("#["));
        }
    }
    tests
}

fn panics(path: &str, text: &str) -> Vec<Finding> {
    let code = source::without_tests(&source::code(text));
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for call in [".unwrap()", ".expect("] {
            if line.contains(call) {
                let message = format!("`{call}` outside tests: return an error, or count the loss");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn long_files_are_found() {
        let text = |lines: usize| format!("//! A file.\n{}", "\n".repeat(lines - 1));
        assert_eq!(lines("xtask/src/a.rs", &text(MAX_LINES)), NOTHING);
        assert_eq!(lines("xtask/src/a.rs", &text(MAX_LINES + 1)), [MAX_LINES + 1]);
    }

    #[test]
    fn the_first_line_tells_what_the_file_is() {
        assert_eq!(lines("xtask/src/a.rs", "fn a() {}\n"), [1]);
    }

    #[test]
    fn rooms_for_everything_are_found_but_the_common_crate_is_none() {
        assert_eq!(lines("holmes-user/src/window/utils.rs", "//! x\n"), [1]);
        assert_eq!(lines("holmes-user/src/common/mod.rs", "//! x\n"), [1]);
        assert_eq!(lines("holmes-common/src/record.rs", "//! x\n"), NOTHING);
    }

    #[test]
    fn unfinished_work_is_found() {
        let mark = ["TO", "DO"].concat();
        let macro_call = ["to", "do!()"].concat();
        let text = format!("//! x\n// {mark}: later\nfn a() {{ {macro_call} }}\n// TODOS\n");
        assert_eq!(lines("xtask/src/a.rs", &text), [2, 3]);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let of = |folder: &str| format!("see \"/{folder}/x/y\"\n");
        for folder in ["work", "root", "home"] {
            assert_eq!(lines("README.md", &of(folder)), [1], "{folder}");
        }
        assert_eq!(lines("README.md", "/proc/PID/root/etc and https://a.b/work/x\n"), NOTHING);
    }

    #[test]
    fn panics_are_found_outside_tests_only() {
        let text = "//! x.unwrap()\nfn a() { b.unwrap(); c.expect(\"d\"); }\n\
                    // e.unwrap()\n#[cfg(test)]\nmod tests { fn f() { g.unwrap(); } }\n";
        assert_eq!(lines("holmes-user/src/a.rs", text), [2, 2]);
        assert_eq!(lines("xtask/src/a.rs", text), NOTHING);
    }

    #[test]
    fn files_that_are_tests_may_panic() {
        let tree = Tree::of(&[
            ("holmes-user/src/a/mod.rs", "//! x\n#[cfg(test)]\nmod tests;\n"),
            ("holmes-user/src/a/tests.rs", "//! x\nfn f() { g.unwrap(); }\n"),
            ("holmes-user/src/b.rs", "//! x\n#[cfg(test)]\n#[allow(dead_code)]\nmod deep;\n"),
            ("holmes-user/src/b/deep/c.rs", "//! x\nfn f() { g.unwrap(); }\n"),
        ]);
        assert!(check(&tree).is_empty());
    }
}
