//! The folders of the clone that the tasks work on.
//!
//! Must not: read or write anything but to find the clone.

use std::path::{Path, PathBuf};

/// The root of the clone: the folder above `xtask`, as cargo says at run time, so that a moved
/// clone still finds itself.
pub fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map(Path::to_path_buf).unwrap_or(xtask)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || root().join("target"),
        |dir| root().join(dir), // an absolute path replaces the root
    )
}

/// The path as one types it here: relative to the current folder if it is below it.
pub fn short(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    below.unwrap_or_else(|| path.to_path_buf())
}

/// The recorder as `cargo build --release` leaves it.
pub fn recorder() -> PathBuf {
    target().join("release/holmes-ebpf")
}

/// Cargo's home: its registry and the tools it installs.
pub fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}
