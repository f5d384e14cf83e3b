//! Which compilers can build the probes here, and what to install where none can.
//!
//! The probes need a compiler that takes unstable options and has the source of `core`, for which
//! no BPF build exists: rustup's nightly with the component rust-src, or Debian's packages.
//!
//! Must not: install anything; see `install`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// The linker's version that the project is built with.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// What to do where there is no toolchain. Printed as it is.
const HOW_TO_INSTALL: &str = "\
install one of these two:
  rustup (any distribution):
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker
  Debian 12 or newer:
    sudo apt-get install rustc-web cargo-web rust-web-src llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev
    LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 \\
      cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22";

/// A compiler with the source of `core`, and a linker for BPF.
#[derive(Debug)]
pub struct Toolchain {
    /// Where it comes from, for a person.
    pub origin: &'static str,
    /// Compiler and linker with their versions: equal where the bytes they make are equal.
    pub version: String,
    /// Its cargo.
    pub cargo: PathBuf,
    /// Its compiler.
    pub rustc: PathBuf,
    /// The source of the compiler's own libraries.
    pub rust_src: PathBuf,
    /// The linker.
    pub bpf_linker: PathBuf,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.origin, self.version)
    }
}

/// A toolchain of this machine: the one that made the committed object if it is here, so that
/// bytes can be compared, else the first that can build.
///
/// # Errors
/// When there is none: the message says for each what is missing, and what to install.
pub fn choose(preferred: Option<&str>) -> Result<Toolchain> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for candidate in [rustup_nightly(), debian()] {
        match candidate {
            Ok(toolchain) => found.push(toolchain),
            Err(why) => missing.push(format!("{why:#}")),
        }
    }
    let best = found.iter().position(|toolchain| Some(toolchain.version.as_str()) == preferred);
    if found.is_empty() {
        bail!("no compiler for the probes ({}); {HOW_TO_INSTALL}", missing.join("; "));
    }
    Ok(found.swap_remove(best.unwrap_or(0)))
}

fn rustup_nightly() -> Result<Toolchain> {
    let mut ask = command::of("rustup", &["run", "nightly", "rustc", "--print", "sysroot"]);
    let sysroot = command::output(command::without_outer_cargo(&mut ask))
        .ok()
        .context("rustup has no nightly")?;
    let bin = Path::new(sysroot.trim()).join("bin");
    complete("rustup's nightly", &bin.join("cargo"), &bin.join("rustc"))
}

fn debian() -> Result<Toolchain> {
    complete("Debian's rustc-web", Path::new("/usr/bin/cargo"), Path::new("/usr/bin/rustc"))
}

/// Looks at one compiler: is it new enough, has it the source of `core`, is there a linker.
fn complete(origin: &'static str, cargo: &Path, rustc: &Path) -> Result<Toolchain> {
    let ask = |arguments: &[&str]| {
        command::output(command::without_outer_cargo(Command::new(rustc).args(arguments)))
    };
    let verbose = ask(&["-vV"]).ok().with_context(|| format!("{origin} is not installed"))?;
    let compiler = Compiler::parse(&verbose)
        .with_context(|| format!("{origin}: cannot read its version from `rustc -vV`"))?;
    if !compiler.is_new_enough() {
        bail!("{origin} is {}, too old: 1.90 or newer is needed", compiler.banner);
    }
    let sysroot = ask(&["--print", "sysroot"])?;
    let rust_src = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    if !rust_src.join("library/core/src/lib.rs").is_file() {
        bail!("{origin} has no source of core (rust-src)");
    }
    if !cargo.is_file() {
        bail!("{origin} has no cargo");
    }
    let bpf_linker = command::find("bpf-linker").context("bpf-linker is not installed")?;
    let linker = command::output(&mut command::of(&bpf_linker, &["--version"]))?;
    // bpf-linker 0.13 names only itself; later versions may add the LLVM they contain.
    let linker = linker.lines().next().unwrap_or_default().trim().to_owned();
    Ok(Toolchain {
        origin,
        version: format!("{}, LLVM {}; {linker}", compiler.banner, compiler.llvm),
        cargo: cargo.to_path_buf(),
        rustc: rustc.to_path_buf(),
        rust_src,
        bpf_linker,
    })
}

/// What `rustc -vV` says.
#[derive(Debug, PartialEq, Eq)]
struct Compiler {
    banner: String,
    minor: u32,
    llvm: String,
}

impl Compiler {
    /// The first line and the fields `release` and `LLVM version`.
    fn parse(verbose: &str) -> Option<Self> {
        let field = |name: &str| {
            verbose.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim())
        };
        let minor = field("release:")?.strip_prefix("1.")?.split('.').next()?.parse().ok()?;
        Some(Self {
            banner: verbose.lines().next()?.trim().to_owned(),
            minor,
            llvm: field("LLVM version:")?.to_owned(),
        })
    }

    /// `-Z build-std` with the library's own lock file, and edition 2024.
    fn is_new_enough(&self) -> bool {
        self.minor >= 90
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "\
rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)
binary: rustc
host: x86_64-unknown-linux-gnu
release: 1.96.0
LLVM version: 22.1.8
";

    #[test]
    fn reads_what_rustc_says() {
        let compiler = Compiler::parse(DEBIAN).unwrap();
        assert_eq!((compiler.minor, compiler.llvm.as_str()), (96, "22.1.8"));
        assert!(compiler.is_new_enough());
        assert!(compiler.banner.starts_with("rustc 1.96.0"));
    }

    #[test]
    fn an_old_or_strange_compiler_is_not_taken() {
        let old = DEBIAN.replace("1.96.0", "1.63.0");
        assert!(!Compiler::parse(&old).unwrap().is_new_enough());
        let nightly = DEBIAN.replace("release: 1.96.0", "release: 1.99.0-nightly");
        assert_eq!(Compiler::parse(&nightly).unwrap().minor, 99);
        assert_eq!(Compiler::parse("gcc (Debian) 12"), None);
    }
}
