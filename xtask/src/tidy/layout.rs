//! The top level of the clone, and that every dependency is accounted for.
//!
//! Must not: look into folders.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// All that may stand at the top level. A new name here is a decision, not an accident.
const TOP_LEVEL: [&str; 18] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "holmes-common",
    "holmes-ebpf",
    "holmes-user",
    "rustfmt.toml",
    "tests",
    "xtask",
];

/// Every finding of this kind.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = top_level(tree);
    findings.extend(dependencies(tree));
    findings
}

fn top_level(tree: &Tree) -> Vec<Finding> {
    let names: BTreeSet<&str> =
        tree.files.keys().filter_map(|path| path.split('/').next()).collect();
    let message = "nothing new grows at the top level: put it into one of the folders";
    let unknown = names.into_iter().filter(|name| !TOP_LEVEL.contains(name));
    unknown.map(|name| Finding::new(name, 1, message)).collect()
}

/// Every dependency of every manifest has its line in ARCHITECTURE.md: why it is there.
fn dependencies(tree: &Tree) -> Vec<Finding> {
    let Some(architecture) = tree.text("ARCHITECTURE.md") else {
        return vec![Finding::new("ARCHITECTURE.md", 1, "is missing: how the parts fit together")];
    };
    let mut findings = Vec::new();
    for (path, text) in tree.texts("", "Cargo.toml") {
        let manifest: toml::Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::new(path, 1, format!("not TOML: {error}")));
                continue;
            }
        };
        for name in dependency_names(&manifest) {
            if !architecture.lines().any(|line| line.starts_with('|') && names(line, &name)) {
                let line = text.lines().position(|line| line.starts_with(&name)).unwrap_or(0) + 1;
                let message = format!(
                    "the dependency `{name}` has no row in ARCHITECTURE.md: say in one line why \
                     it is there"
                );
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

fn names(line: &str, dependency: &str) -> bool {
    line.contains(&format!("`{dependency}`"))
}

/// Names below `dependencies`, `dev-dependencies` and `build-dependencies`, at whatever depth
/// (workspace, target), but for our own crates.
fn dependency_names(manifest: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key == "dependencies" || key.ends_with("-dependencies") {
            names.extend(table.keys().filter(|name| !name.starts_with("holmes-")).cloned());
        } else if ["workspace", "target"].contains(&key.as_str()) || key.starts_with("cfg(") {
            names.extend(dependency_names(table));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_is_found() {
        let tree = Tree::of(&[("ARCHITECTURE.md", ""), ("scripts/a.sh", ""), ("xtask/a", "")]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].file, "scripts");
    }

    #[test]
    fn a_dependency_without_its_row_is_found() {
        let manifest = "[workspace.dependencies]\nknown = \"1\"\nunknown = \"1\"\n\
                        holmes-common = { path = \"x\" }\n\
                        [target.'cfg(unix)'.dev-dependencies]\nhidden = \"1\"\n";
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", "text about `hidden`\n| `known` | why |\n"),
            ("xtask/Cargo.toml", manifest),
        ]);
        let lines: BTreeSet<_> = check(&tree).into_iter().map(|finding| finding.line).collect();
        assert_eq!(lines, BTreeSet::from([3, 6]), "unknown and hidden");
    }
}
