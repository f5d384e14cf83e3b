//! `cargo xtask ebpf`: builds the kernel probes from source, or checks the committed ones.
//!
//! - [`toolchain`]: which compilers can do it here, and what to install where none can;
//! - [`build`]: one build, whose bytes do not depend on the folders it is made in;
//! - [`strip`]: takes the debug information out of the object;
//! - [`manifest`]: which sources and which toolchain made the committed object.

mod build;
mod manifest;
mod strip;
pub mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;
use manifest::Manifest;
use toolchain::Toolchain;

/// Arguments of `cargo xtask ebpf`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fail when the committed object is stale; change nothing.
    #[arg(long, conflicts_with = "out")]
    check: bool,
    /// Put the object into this folder instead of `holmes-ebpf/prebuilt/`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The object's file name on this machine's architecture.
pub fn object_name() -> String {
    format!("holmes-probes.{}.bpf.o", std::env::consts::ARCH)
}

/// Builds or checks, as asked.
///
/// # Errors
/// When there is no toolchain, the build fails, or the check finds a stale object.
pub fn run(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    let folder = args.out.clone().unwrap_or_else(prebuilt);
    build_into(&folder, &toolchain::choose(manifest_toolchain().as_deref())?)?;
    Ok(())
}

/// Builds the probes into the folder, with a manifest beside them, and gives the object's path.
///
/// # Errors
/// When the build fails or the folder cannot be written.
pub fn build_into(folder: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    println!("toolchain: {toolchain}");
    let object = build::build(toolchain, std::env::consts::ARCH)?;
    let made = Manifest {
        sources: manifest::sources_hash(&workspace::root())?,
        toolchain: toolchain.version.clone(),
        object: manifest::hash(&object),
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let file = folder.join(object_name());
    std::fs::write(&file, &object).with_context(|| format!("cannot write {}", file.display()))?;
    made.write(folder)?;
    println!("{}: {} bytes, sha256 {}", file.display(), object.len(), made.object);
    Ok(file)
}

fn prebuilt() -> PathBuf {
    workspace::root().join("holmes-ebpf/prebuilt")
}

/// The toolchain that made the committed object: the one whose bytes can be compared.
pub fn manifest_toolchain() -> Option<String> {
    Manifest::read(&prebuilt()).ok().map(|manifest| manifest.toolchain)
}

/// Whether the committed object belongs to the sources, and, where its toolchain is here, whether it
/// can be built again byte for byte. Also whether the probes compile for the other processors.
///
/// # Errors
/// When it is stale or cannot be built again.
pub fn check() -> Result<()> {
    let committed = Manifest::read(&prebuilt())?;
    let file = prebuilt().join(object_name());
    let object = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    verify(&committed, &manifest::sources_hash(&workspace::root())?, &manifest::hash(&object))?;
    println!("the committed object belongs to these sources");

    let toolchain = match toolchain::choose(Some(&committed.toolchain)) {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            println!("not rebuilt for comparison: {missing:#}");
            return Ok(());
        }
    };
    println!("toolchain: {toolchain}");
    let rebuilt = build::build(&toolchain, std::env::consts::ARCH)?;
    for arch in build::ARCHITECTURES.into_iter().filter(|arch| *arch != std::env::consts::ARCH) {
        let other = build::build(&toolchain, arch)?;
        println!("compiles for {arch} as well ({} bytes)", other.len());
    }
    if toolchain.version != committed.toolchain {
        println!(
            "it builds; bytes not compared: the committed object was made by {}",
            committed.toolchain
        );
        return Ok(());
    }
    if rebuilt != object {
        let kept = workspace::target().join("ebpf").join(object_name());
        std::fs::write(&kept, &rebuilt)
            .with_context(|| format!("cannot write {}", kept.display()))?;
        bail!(
            "the same sources and toolchain made another object (sha256 {}, kept as {}); \
             run `cargo xtask ebpf` and commit holmes-ebpf/prebuilt",
            manifest::hash(&rebuilt),
            kept.display()
        );
    }
    println!("rebuilt byte for byte ({} bytes)", rebuilt.len());
    Ok(())
}

/// Whether the manifest describes these sources and this object.
fn verify(committed: &Manifest, sources: &str, object: &str) -> Result<()> {
    if committed.sources != sources {
        bail!(
            "the committed probes are stale: the sources' sha256 is {sources}, the manifest says \
             {}; run `cargo xtask ebpf` and commit holmes-ebpf/prebuilt",
            committed.sources
        );
    }
    if committed.object != object {
        bail!(
            "the committed object is not the one its manifest names: sha256 {object}, the manifest \
             says {}; run `cargo xtask ebpf` and commit both files",
            committed.object
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Manifest {
        Manifest { sources: "s".into(), toolchain: "t".into(), object: "o".into() }
    }

    #[test]
    fn a_fresh_object_passes() {
        verify(&committed(), "s", "o").unwrap();
    }

    #[test]
    fn changed_sources_are_stale() {
        let error = verify(&committed(), "changed", "o").unwrap_err().to_string();
        assert!(error.contains("stale") && error.contains("cargo xtask ebpf"), "{error}");
    }

    #[test]
    fn another_object_than_the_manifests_is_refused() {
        let error = verify(&committed(), "s", "changed").unwrap_err().to_string();
        assert!(error.contains("not the one its manifest names"), "{error}");
    }
}
