//! README, ARCHITECTURE, CHANGELOG: their links resolve, and the commands they show exist.
//!
//! Must not: judge prose.

use clap::CommandFactory;

use super::Finding;
use super::source;
use super::tree::Tree;

/// Every finding of this kind.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("", ".md") {
        findings.extend(links(tree, path, text));
        findings.extend(commands(tree, path, text));
    }
    if !tree.text("CHANGELOG.md").is_some_and(|text| text.contains("\n## [Unreleased]")) {
        let message = "needs a part `## [Unreleased]`: what the next version changes for its users";
        findings.push(Finding::new("CHANGELOG.md", 1, message));
    }
    findings
}

/// Relative links lead to a file or folder of the clone.
fn links(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, mark) in line.match_indices("](") {
            let Some(link) = line[at + mark.len()..].split(')').next() else { continue };
            let target = link.split(['#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !resolve(folder, target).is_some_and(|file| tree.has(&file)) {
                let message = format!("the link `{link}` leads nowhere: correct or remove it");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

/// The path relative to the clone, or `None` when it leaves it.
fn resolve(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Commands in code blocks: tasks of ours, and subcommands and flags of the recorder.
fn commands(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let tasks = crate::Cli::command();
    let command_line: String = tree
        .texts("holmes-user/src/cli/", ".rs")
        .map(|(_, text)| text.to_lowercase() + "\n")
        .collect();
    let mut findings = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if !in_block {
            continue;
        }
        let mut report = |message: String| findings.push(Finding::new(path, index + 1, message));
        let words: Vec<&str> =
            line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if let Some(task) = behind(&words, &["cargo", "xtask"])
            && !tasks.get_subcommands().any(|known| known.get_name() == task[0])
        {
            report(format!("`cargo xtask {}` does not exist", task[0]));
        }
        let Some(arguments) = behind(&words, &["holmes-ebpf"]) else { continue };
        for (position, word) in arguments.iter().enumerate() {
            let flag = word.strip_prefix("--").and_then(|flag| flag.split(['=', ']']).next());
            let name = match flag {
                Some("" | "help" | "version") => continue,
                Some(flag) => flag.replace('-', "_"),
                None if position == 0 && word.chars().all(|c| c.is_ascii_lowercase()) => {
                    (*word).to_owned()
                }
                None => continue,
            };
            let dashed = name.replace('_', "-");
            let known = [&name, &dashed].iter().any(|name| {
                !name.is_empty() && !source::lines_with(&command_line, name).is_empty()
            });
            if !known {
                report(format!("`holmes-ebpf` knows no `{word}`: correct it here or add it there"));
            }
        }
    }
    findings
}

/// The words behind these, or `None` where they do not occur in this order, or nothing follows.
fn behind<'a>(words: &'a [&'a str], wanted: &[&str]) -> Option<&'a [&'a str]> {
    let at = words.windows(wanted.len()).position(|window| window == wanted)?;
    Some(&words[at + wanted.len()..]).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [usize; 0] = [];

    fn found(readme: &str) -> Vec<usize> {
        let tree = Tree::of(&[
            ("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n"),
            ("README.md", readme),
            ("deploy/Dockerfile", ""),
            ("holmes-user/src/cli/args.rs", "Record(Record)\n dump_dir: PathBuf,\n"),
        ]);
        check(&tree).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        assert_eq!(
            found("[a](deploy/) [b](CHANGELOG.md#x) [c](https://x.y/z) [d](#here)\n"),
            NOTHING
        );
        assert_eq!(found("[a](deploy/none)\n[b](../outside)\n"), [1, 2]);
    }

    #[test]
    fn commands_exist() {
        assert_eq!(
            found(
                "```\ncargo xtask tidy\nsudo holmes-ebpf   # x\n\
                          sudo holmes-ebpf record --dump-dir x\n```\n"
            ),
            NOTHING
        );
        assert_eq!(found("```\ncargo xtask fly\nholmes-ebpf --no-such x\n```\n"), [2, 3]);
        assert_eq!(found("holmes-ebpf dance\n"), NOTHING, "only code blocks are commands");
        assert_eq!(found("```\nholmes-ebpf dance\n```\n"), [2]);
    }

    #[test]
    fn the_changelog_has_an_unreleased_part() {
        assert_eq!(check(&Tree::of(&[("CHANGELOG.md", "# Changelog\n")])).len(), 1);
    }
}
