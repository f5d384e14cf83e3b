//! Which sources and which toolchain made the committed object: `MANIFEST.toml` beside it.
//!
//! Must not: build anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// What the probes are made of, relative to the clone: files, and folders with all below them.
const SOURCES: [&str; 4] =
    ["holmes-common/src", "holmes-ebpf/Cargo.lock", "holmes-ebpf/Cargo.toml", "holmes-ebpf/src"];

/// What is known of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    /// SHA-256 over the sources, in hex; see [`sources_hash`].
    pub sources: String,
    /// Compiler and linker, with their versions.
    pub toolchain: String,
    /// SHA-256 of the object, in hex.
    pub object: String,
}

impl Manifest {
    /// Reads the manifest in this folder.
    ///
    /// # Errors
    /// When it is missing or lacks a key.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("MANIFEST.toml");
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!("cannot read {}; make it with `cargo xtask ebpf`", file.display())
        })?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Writes the manifest into this folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let file = folder.join("MANIFEST.toml");
        std::fs::write(&file, self.text())
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().context("not TOML")?;
        let key = |name: &str| -> Result<String> {
            let value = table.get(name).and_then(toml::Value::as_str);
            Ok(value.with_context(|| format!("no text under the key `{name}`"))?.to_owned())
        };
        Ok(Self {
            sources: key("sources_sha256")?,
            toolchain: key("toolchain")?,
            object: key("object_sha256")?,
        })
    }

    fn text(&self) -> String {
        let Self { sources, toolchain, object } = self;
        format!(
            "# Written by `cargo xtask ebpf`, checked by `cargo xtask ebpf --check`.\n\
             sources_sha256 = {}\ntoolchain = {}\nobject_sha256 = {}\n",
            toml::Value::from(sources.as_str()),
            toml::Value::from(toolchain.as_str()),
            toml::Value::from(object.as_str()),
        )
    }
}

/// SHA-256 in hex.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// One hash over the paths and contents of everything the probes are made of. Each path and each
/// content is preceded by its length, so that bytes cannot wander from one file to the next.
///
/// # Errors
/// When a source is missing or cannot be read.
pub fn sources_hash(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        let content =
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for part in [name.as_bytes(), &content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hex(&hasher.finalize()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        // Editors leave hidden files behind; no source of ours is hidden.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clone_with(content: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["holmes-common/src", "holmes-ebpf/src"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["holmes-ebpf/Cargo.toml", "holmes-ebpf/Cargo.lock", "holmes-ebpf/src/main.rs"]
        {
            std::fs::write(root.path().join(file), content).unwrap();
        }
        root
    }

    #[test]
    fn the_hash_depends_on_contents_and_names_but_not_on_the_folder() {
        let first = clone_with("a");
        let hash = sources_hash(first.path()).unwrap();
        assert_eq!(hash, sources_hash(clone_with("a").path()).unwrap());
        assert_ne!(hash, sources_hash(clone_with("b").path()).unwrap());

        let source = first.path().join("holmes-ebpf/src");
        std::fs::rename(source.join("main.rs"), source.join("other.rs")).unwrap();
        assert_ne!(hash, sources_hash(first.path()).unwrap());
    }

    #[test]
    fn a_missing_source_is_an_error() {
        let root = clone_with("a");
        std::fs::remove_file(root.path().join("holmes-ebpf/Cargo.lock")).unwrap();
        assert!(sources_hash(root.path()).unwrap_err().to_string().contains("Cargo.lock"));
    }

    #[test]
    fn a_manifest_survives_the_round_trip() {
        let manifest = Manifest {
            sources: hash(b"sources"),
            toolchain: "rustc 1.0 \"quoted\"; bpf-linker 0.1".into(),
            object: hash(b"object"),
        };
        assert_eq!(Manifest::parse(&manifest.text()).unwrap(), manifest);
        assert!(Manifest::parse("toolchain = 1").is_err());
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-4's example, "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(b"abc"), expected);
    }
}
