//! The kernel modules that a guest must insert before it can see the host's files.
//!
//! Must not: run anything but a decompressor.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::command;

/// What a guest needs: the bus of its devices, the host's files, and a layer to write on. What a
/// kernel has built in is no file and is left out; what these depend on comes along.
const WANTED: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];

/// Finds them among the files of a kernel's packages, and copies them into `into` under names that
/// sort in the order in which they must be inserted.
///
/// # Errors
/// When one cannot be read, decompressed or written.
pub fn keep(files: &[PathBuf], into: &Path) -> Result<()> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut open: Vec<String> = WANTED.map(str::to_owned).to_vec();
    while let Some(name) = open.pop() {
        if found.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let Some(file) = files.iter().find(|file| module_name(file).as_ref() == Some(&name)) else {
            continue;
        };
        let bytes = read(file)?;
        open.extend(depends(&bytes));
        found.push((name, bytes));
    }
    let needs: Vec<(&str, Vec<String>)> =
        found.iter().map(|(name, bytes)| (name.as_str(), depends(bytes))).collect();
    for (at, name) in order(&needs)?.into_iter().enumerate() {
        let file = into.join(format!("{at:02}-{name}.ko"));
        let bytes = found.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes);
        std::fs::write(&file, bytes.map_or(&[][..], Vec::as_slice))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// `virtio_pci` of `.../virtio-pci.ko.xz`: in a module's name the two signs are the same.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let stem = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".ko")?;
    Some(stem.replace('-', "_"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|ending| ending == "xz") {
        // xz-utils is essential on Debian: dpkg-deb's own packages need it.
        let output = command::of("xz", &["-dc"])
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .context("cannot start `xz`")?;
        if !output.status.success() {
            bail!("`xz -dc {}` failed: {}", file.display(), output.status);
        }
        return Ok(output.stdout);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The modules that a module names as needed: `depends=` in its section `.modinfo`, of strings that
/// end with NUL.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"depends=";
    let starts_string = |at: usize| at == 0 || module.get(at - 1) == Some(&0);
    let at = module
        .windows(KEY.len())
        .enumerate()
        .find(|(at, window)| *window == KEY && starts_string(*at))
        .map(|(at, _)| at + KEY.len());
    let value = at.and_then(|at| module.get(at..)).unwrap_or_default();
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// Each behind all that it needs. What is needed and not there is built in.
fn order(needs: &[(&str, Vec<String>)]) -> Result<Vec<String>> {
    let mut done: Vec<String> = Vec::new();
    while done.len() < needs.len() {
        let is_ready = |of: &[String]| {
            of.iter().all(|need| done.contains(need) || !needs.iter().any(|(name, _)| name == need))
        };
        let next =
            needs.iter().find(|(name, of)| !done.iter().any(|known| known == name) && is_ready(of));
        let Some((name, _)) = next else { bail!("modules that need each other: {needs:?}") };
        done.push((*name).to_owned());
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_comes_behind_what_it_needs() {
        let needs = |of: &[&str]| of.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let modules = [
            ("overlay", needs(&[])),
            ("virtiofs", needs(&["fuse", "virtio_ring", "virtio"])),
            ("virtio", needs(&["virtio_ring", "built_in"])),
            ("fuse", needs(&[])),
            ("virtio_ring", needs(&[])),
        ];
        let order = order(&modules).unwrap();
        assert_eq!(order, ["overlay", "fuse", "virtio_ring", "virtio", "virtiofs"]);
    }

    #[test]
    fn a_circle_is_an_error_and_not_an_endless_loop() {
        let circle = [("a", vec!["b".to_owned()]), ("b", vec!["a".to_owned()])];
        assert!(order(&circle).is_err());
    }

    #[test]
    fn needs_are_read_from_the_module() {
        let module =
            b"\x7fELF..xdepends=no\0license=GPL\0depends=fuse,virtio-ring\0name=virtiofs\0";
        assert_eq!(depends(module), ["fuse", "virtio_ring"]);
        assert!(depends(b"name=overlay\0depends=\0").is_empty());
        assert!(depends(b"no module").is_empty());
    }

    #[test]
    fn modules_are_kept_in_order_under_any_spelling() {
        let folder = tempfile::tempdir().unwrap();
        let (from, into) = (folder.path().join("from"), folder.path().join("into"));
        for dir in [&from, &into] {
            std::fs::create_dir(dir).unwrap();
        }
        let file = |name: &str, text: &str| {
            let path = from.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [
            file("virtiofs.ko", "\0depends=fuse\0"),
            file("fuse.ko", "\0depends=\0"),
            file("virtio-pci.ko", "\0depends=\0"),
            file("other.ko", "\0depends=fuse\0"),
        ];
        keep(&files, &into).unwrap();
        let names = std::fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        let at = |wanted: &str| names.iter().position(|name| name.contains(wanted)).unwrap();
        assert!(at("fuse") < at("virtiofs"), "{names:?}");
    }
}
