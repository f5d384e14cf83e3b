//! Finds or installs the tools that the tests need.
//!
//! Must not: fail a task. What cannot be had is told in one sentence, and the steps that need it
//! say so. Nothing is installed that is already there, and nothing is started: promtool is
//! unpacked from Debian's `prometheus` rather than installed with its service.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::ebpf::toolchain::{self, BPF_LINKER_VERSION};

/// cargo-deny's version. 0.20 is the first to read the lock files of cargo 1.95.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// A command and the Debian package that has it.
const PACKAGES: [(&str, &str); 12] = [
    ("cc", "gcc"),
    ("c++", "g++"),
    ("go", "golang-go"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("jcmd", "default-jdk-headless"),
    ("nm", "binutils"),
    ("setpriv", "util-linux"),
    ("git", "git"),
    ("musl-gcc", "musl-tools"),
    ("openssl", "openssl"),
    ("perf", "linux-perf"),
];

/// Allocators that stand in for libc's, and the Debian package of each.
const ALLOCATORS: [(&str, &str); 3] = [
    ("libjemalloc.so.2", "libjemalloc2"),
    ("libmimalloc.so.2.0", "libmimalloc2.0"),
    ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
];

/// Debian's compiler for the probes, and what bpf-linker links with.
const PROBE_PACKAGES: [&str; 7] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// Where Debian's LLVM 22 is: for bpf-linker's build script, and for that of llvm-sys.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Makes sure of compilers, interpreters and allocators; says in one sentence each what is missing still.
pub fn languages() -> Vec<String> {
    let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let has_library = |name: &str| Path::new(&libraries).join(name).exists();
    let absent: Vec<&str> = PACKAGES
        .iter()
        .filter(|(name, _)| command::find(name).is_none())
        .chain(ALLOCATORS.iter().filter(|(name, _)| !has_library(name)))
        .map(|(_, package)| *package)
        .collect();
    if absent.is_empty() {
        return Vec::new();
    }
    match apt_install(&absent) {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("{} missing: {error:#}", absent.join(", "))],
    }
}

/// Makes sure of a toolchain for the probes.
///
/// # Errors
/// When there is none and it cannot be installed.
pub fn probe_toolchain() -> Result<()> {
    if toolchain::choose(None).is_ok() {
        return Ok(());
    }
    if !Path::new("/usr/bin/rustc").exists() || !Path::new(LLVM_PREFIX).exists() {
        apt_install(&PROBE_PACKAGES)?;
    }
    if command::find("bpf-linker").is_none() {
        let mut cargo = command::of_cargo(&["install", "bpf-linker"]);
        cargo
            .args(["--version", BPF_LINKER_VERSION, "--no-default-features"])
            .args(["--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX);
        announce("bpf-linker");
        command::run(&mut cargo)?;
    }
    toolchain::choose(None).map(|_| ())
}

/// Makes sure of promtool, which checks `/metrics`.
///
/// # Errors
/// When it is not here and Debian's package cannot be had.
pub fn promtool() -> Result<()> {
    if command::find("promtool").is_some() {
        return Ok(());
    }
    if command::find("apt-get").is_none() || command::find("dpkg-deb").is_none() {
        bail!("promtool is not installed, and only Debian's package is known here");
    }
    let tools = command::tools();
    let unpacked = tools.join("prometheus");
    std::fs::create_dir_all(&unpacked)
        .and_then(|()| std::fs::create_dir_all(tools.join("bin")))
        .with_context(|| format!("cannot create {}", tools.display()))?;
    announce("promtool");
    let mut download = command::of("apt-get", &["download", "prometheus"]);
    command::run(download.current_dir(&unpacked))?;
    let package = std::fs::read_dir(&unpacked)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .context("apt-get download left no package")?;
    command::run(command::of("dpkg-deb", &["-x"]).arg(&package).arg(&unpacked))?;
    std::fs::copy(unpacked.join("usr/bin/promtool"), tools.join("bin/promtool"))
        .context("the package has no promtool")?;
    Ok(())
}

/// Makes sure of cargo-deny. Built without optimisation: it runs once, and building it is what
/// takes the time.
///
/// # Errors
/// When it is not here and cannot be built.
pub fn cargo_deny() -> Result<()> {
    if command::find("cargo-deny").is_some() {
        return Ok(());
    }
    announce("cargo-deny");
    let arguments =
        ["install", "--debug", "--locked", "--version", CARGO_DENY_VERSION, "cargo-deny"];
    command::run(&mut command::of_cargo(&arguments))
}

/// Makes sure of a component of the toolchain that runs us (`rustfmt`, `clippy`).
///
/// # Errors
/// When it is not here and rustup cannot add it.
pub fn rust_component(name: &'static str) -> Result<()> {
    let subcommand = if name == "rustfmt" { "fmt" } else { name };
    if command::output(&mut command::of_cargo(&[subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    announce(name);
    command::run(&mut command::of("rustup", &["component", "add", name]))
        .with_context(|| format!("the Rust component {name} is not installed"))
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if command::find("apt-get").is_none() {
        bail!("only Debian's packages are known here; install by hand: {}", packages.join(" "));
    }
    let apt = |arguments: &[&str]| {
        let mut apt = if command::is_root() {
            command::of("apt-get", arguments)
        } else {
            let mut sudo = command::of("sudo", &["-n", "--preserve-env=DEBIAN_FRONTEND"]);
            sudo.arg("apt-get").args(arguments);
            sudo
        };
        apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        command::run(&mut apt)
    };
    if !command::is_root() && !command::sudo_without_password() {
        bail!("not root; run `sudo apt-get install {}`", packages.join(" "));
    }
    announce(&packages.join(" "));
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend_from_slice(packages);
    apt(&arguments)
}

fn announce(what: &str) {
    println!("installing {what}");
}
