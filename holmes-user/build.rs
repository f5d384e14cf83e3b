//! Chooses the probes to embed: the committed ones, or those that `HOLMES_PROBES` names (freshly
//! built ones under test).

use std::path::PathBuf;
use std::{env, process};

fn main() {
    println!("cargo::rerun-if-env-changed=HOLMES_PROBES");
    let probes = env::var_os("HOLMES_PROBES").map_or_else(
        || {
            let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
            PathBuf::from(manifest).join("../holmes-ebpf/prebuilt/holmes-probes.x86_64.bpf.o")
        },
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", probes.display());
    if !probes.is_file() {
        eprintln!("no probes at {}: run `cargo xtask ebpf`", probes.display());
        process::exit(1);
    }
    println!("cargo::rustc-env=HOLMES_PROBES_PATH={}", probes.display());
}
