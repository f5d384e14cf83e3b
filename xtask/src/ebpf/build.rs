//! One build of the probes, whose bytes do not depend on the folders it is made in.
//!
//! Must not: write outside cargo's target folder.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::strip;
use super::toolchain::Toolchain;
use crate::{command, workspace};

/// The processors the probes are written for. Only the first has been tried; the others have to
/// compile.
pub const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Builds `holmes-ebpf` for a processor and gives the object, without debug information.
///
/// # Errors
/// When the architecture is not supported, or the compiler fails.
pub fn build(toolchain: &Toolchain, arch: &str) -> Result<Vec<u8>> {
    let root = workspace::root();
    let source = root.join("holmes-ebpf");
    // The processor is a flag of the compiler: in one folder the builds would replace each other.
    let folder = if arch == ARCHITECTURES[0] { "ebpf".to_owned() } else { format!("ebpf-{arch}") };
    let target = workspace::target().join(folder);
    let mut cargo = Command::new(&toolchain.cargo);
    command::without_outer_cargo(&mut cargo)
        .current_dir(&source)
        // Debian's compiler is a stable one; it has the source that `-Z build-std` needs.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain, &root, arch)?)
        .args(["build", "--locked", "--release", "--bin", "holmes-probes"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&target);
    command::run(&mut cargo).context("cannot build the probes")?;
    let file = target.join("bpfel-unknown-none/release/holmes-probes");
    let object = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    strip::strip_debug(&object)
}

/// The compiler's flags, separated as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn flags(toolchain: &Toolchain, root: &Path, arch: &str) -> Result<OsString> {
    if !ARCHITECTURES.contains(&arch) {
        bail!("the probes are written for {}; not for {arch}", ARCHITECTURES.join(" and "));
    }
    let mut flags: Vec<OsString> = vec![
        format!("--cfg=bpf_target_arch=\"{arch}\"").into(),
        // BTF is made from the debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        joined("-Clinker=", &toolchain.bpf_linker, ""),
    ];
    // Later ones win: a CARGO_HOME inside the clone is still the registry.
    for (folder, name) in [
        (root, "/holmes-ebpf"),
        (workspace::cargo_home().as_path(), "/cargo"),
        (toolchain.rust_src.as_path(), "/rust"),
    ] {
        flags.push(joined("--remap-path-prefix=", folder, &format!("={name}")));
    }
    Ok(flags.join(OsString::from("\x1f").as_os_str()))
}

fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let mut text = OsString::from(before);
    text.push(path);
    text.push(after);
    text
}
