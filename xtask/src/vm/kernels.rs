//! Debian's kernels: which one a version stands for, and its image and modules in the cache.
//!
//! Must not: know what runs on them. Nothing here names a build of a kernel: they change every few
//! weeks, so they are looked up in Debian's list of packages.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use super::modules;

/// What a person asks for instead of a number.
pub const NEWEST: &str = "newest";

/// Debian's flavour for virtual machines: the smallest, and the fastest to start.
const FLAVOUR: &str = "-cloud-amd64";

/// The packages that together are one kernel: up to 6.18 all of it is in the first, later the
/// kernel and its modules are in the other two.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Kernel {
    /// What `uname -r` says on it.
    pub release: String,
    /// The file to boot.
    pub image: PathBuf,
    /// The modules to insert, in this order.
    pub modules: Vec<PathBuf>,
    /// What was downloaded for it just now, in bytes; 0 when it was in the cache.
    pub downloaded: u64,
}

/// Makes sure that the kernel `wanted` stands for is in the cache `folder`.
///
/// # Errors
/// When Debian has none of that version, or it cannot be fetched.
pub fn fetch(apt: &Apt, names: &str, wanted: &str, folder: &Path) -> Result<Kernel> {
    let release = resolve(names, wanted)
        .with_context(|| format!("Debian's suites hold no kernel {wanted} for cloud-amd64"))?;
    let home = folder.join(&release);
    let mut downloaded = 0;
    if !home.exists() {
        downloaded = fill(apt, names, &release, folder)?;
    }
    let image = home.join("vmlinuz");
    let mut modules = files_below(&home.join("modules"))?;
    modules.sort();
    Ok(Kernel { release, image, modules, downloaded })
}

/// Fetches a kernel, and keeps of it what a guest needs: a tenth.
fn fill(apt: &Apt, names: &str, release: &str, folder: &Path) -> Result<u64> {
    let unpacked = folder.join("unpacked");
    let unfinished = folder.join("unfinished");
    for stale in [&unpacked, &unfinished] {
        if stale.exists() {
            std::fs::remove_dir_all(stale)
                .with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    std::fs::create_dir_all(unfinished.join("modules"))
        .with_context(|| format!("cannot make {}", unfinished.display()))?;
    let packages = packages(names, release);
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let bytes = apt.unpack(&packages, false, &unpacked)?;
    let files = files_below(&unpacked)?;
    let image = files
        .iter()
        .find(|file| {
            file.file_name()
                .is_some_and(|name| name == "vmlinuz" || *name == *format!("vmlinuz-{release}"))
        })
        .with_context(|| format!("{packages:?} hold no vmlinuz"))?;
    std::fs::copy(image, unfinished.join("vmlinuz")).context("cannot keep the kernel")?;
    modules::keep(&files, &unfinished.join("modules"))?;
    std::fs::remove_dir_all(&unpacked)
        .with_context(|| format!("cannot remove {}", unpacked.display()))?;
    // Only now: a download that was interrupted must not look finished.
    std::fs::rename(&unfinished, folder.join(release)).context("cannot keep the kernel")?;
    Ok(bytes)
}

/// The release that a version stands for, the newest if there are several.
fn resolve(names: &str, wanted: &str) -> Option<String> {
    let releases = names.lines().filter_map(|name| {
        let name = name.strip_prefix(PARTS[0]).or_else(|| name.strip_prefix(PARTS[1]))?;
        let version = name.strip_suffix(FLAVOUR)?;
        let numbers = numbers(version)?;
        let series = format!("{}.{}", numbers.first()?, numbers.get(1)?);
        (wanted == NEWEST || wanted == series).then(|| (numbers, name.to_owned()))
    });
    releases.max().map(|(_, release)| release)
}

/// The numbers of a kernel's version, for comparing. `None` for what is no kernel of a version:
/// packages that only stand for the newest build (`6.12`), and release candidates.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let upstream = version.split(['-', '+']).next()?;
    if upstream.split('.').count() != 3 || version.contains('~') {
        return None;
    }
    upstream.split('.').try_for_each(|part| part.parse::<u64>().map(|_| ())).ok()?;
    let parts = version.split(|letter: char| !letter.is_ascii_digit());
    Some(parts.filter_map(|part| part.parse().ok()).collect())
}

/// The packages of a release, among those that there are.
fn packages(names: &str, release: &str) -> Vec<String> {
    let wanted = PARTS.map(|part| format!("{part}{release}"));
    wanted.into_iter().filter(|wanted| names.lines().any(|name| name == wanted)).collect()
}

/// Every file in a folder and below it. No link is followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// Whether this names kernels as [`fetch`] takes them: `6.1`, or the newest.
///
/// # Errors
/// When it does not; the message tells what does.
pub fn check_wanted(wanted: &str) -> Result<()> {
    let is_series = wanted
        .split_once('.')
        .is_some_and(|(one, two)| one.parse::<u32>().is_ok() && two.parse::<u32>().is_ok());
    if wanted != NEWEST && !is_series {
        bail!("{wanted:?} is no kernel version: give two numbers, as in 6.1, or `{NEWEST}`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-6.1.0-9-cloud-amd64\n\
        linux-image-6.1.0-56-cloud-amd64\n\
        linux-image-6.1.0-56-cloud-amd64-dbg\n\
        linux-image-6.1.0-57-cloud-amd64-unsigned\n\
        linux-image-6.1.0-60-amd64\n\
        linux-image-6.1.0-0.deb11.52-cloud-amd64\n\
        linux-image-6.1-cloud-amd64\n\
        linux-image-cloud-amd64\n\
        linux-image-6.12.107+deb13-cloud-amd64\n\
        linux-image-6.12.117+deb12-cloud-amd64\n\
        linux-image-7.2.12+deb13-cloud-amd64\n\
        linux-binary-7.2.12+deb13-cloud-amd64\n\
        linux-modules-7.2.12+deb13-cloud-amd64\n\
        linux-binary-unsigned-7.3.4+deb13-cloud-amd64\n\
        linux-modules-7.3.4+deb13-cloud-amd64\n\
        linux-image-7.4~rc1-cloud-amd64\n";

    #[test]
    fn a_version_stands_for_its_newest_build() {
        let found = |wanted| resolve(NAMES, wanted);
        assert_eq!(found("6.1").as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(found("6.12").as_deref(), Some("6.12.117+deb12-cloud-amd64"));
        assert_eq!(found("5.10"), None);
    }

    #[test]
    fn the_newest_is_one_that_debian_signed() {
        assert_eq!(resolve(NAMES, NEWEST).as_deref(), Some("7.2.12+deb13-cloud-amd64"));
        assert_eq!(resolve("", NEWEST), None);
    }

    #[test]
    fn a_kernel_may_be_in_three_packages() {
        assert_eq!(packages(NAMES, "6.1.0-56-cloud-amd64"), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(packages(NAMES, "7.2.12+deb13-cloud-amd64").len(), 3);
    }

    #[test]
    fn a_version_is_two_numbers() {
        assert!(check_wanted("6.1").is_ok() && check_wanted(NEWEST).is_ok());
        for wrong in ["6", "6.x", "latest", "6.1.0", ""] {
            assert!(check_wanted(wrong).is_err(), "{wrong}");
        }
    }
}
