//! Builds the fuzz targets with the stable compiler.
//!
//! The coverage that libFuzzer steers by is a pass of LLVM, which every rustc has and only nightly
//! ones admit to: `RUSTC_BOOTSTRAP` makes a stable one do the same. AddressSanitizer is left out:
//! the parsers are safe Rust, and without it a target runs twice as often.
//!
//! Must not: share artifacts with other builds, whose flags are others.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{command, workspace};

/// What cargo-fuzz gives the compiler, too: coverage of edges, counted, and the operands of
/// comparisons.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

/// The targets' manifest.
pub fn manifest() -> PathBuf {
    workspace::root().join("tests/fuzz/Cargo.toml")
}

/// Where all that fuzzing makes is.
pub fn folder() -> PathBuf {
    workspace::target().join("fuzz")
}

/// Named, although it is the host's: build scripts and macros are then built without the flags.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The program of a target.
pub fn program(target: &str) -> PathBuf {
    folder().join(triple()).join("release").join(target)
}

/// Builds these targets.
///
/// # Errors
/// When the compiler, or a C++ compiler for libFuzzer, fails or is missing.
pub fn build(targets: &[String]) -> Result<()> {
    command::run(&mut cargo(targets))
}

fn cargo(targets: &[String]) -> Command {
    let mut cargo = command::of_cargo(&["build", "--release"]);
    command::without_outer_cargo(&mut cargo);
    cargo.arg("--manifest-path").arg(manifest()).args(["--target", &triple()]);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", folder());
    cargo
}
