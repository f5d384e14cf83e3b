//! Debian's packages from suites that the host need not be configured for, fetched with the host's
//! apt into a folder of ours and checked against Debian's signing keys as apt always does.
//!
//! Must not: install anything, or touch the host's own lists, cache and configuration.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::command;

/// Debian's signing keys (package `debian-archive-keyring`).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// bullseye's security updates hold the kernel 5.10, bookworm's 6.1, trixie's 6.12 and trixie's
/// backports the newest. The emulator is trixie's.
const SUITES: [(&str, &str); 2] = [
    ("http://deb.debian.org/debian", "trixie trixie-backports"),
    (
        "http://deb.debian.org/debian-security",
        "bullseye-security bookworm-security trixie-security",
    ),
];

/// Lists older than this are fetched again: kernels come out every few weeks, and the old ones
/// leave the servers some time later.
const LISTS_KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// An apt of our own, in a folder of our own.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sets it up in `folder`, and fetches the lists of packages where they are missing or old.
    ///
    /// # Errors
    /// When there is no apt or no keyring here, or the lists cannot be had and none are cached.
    pub fn set_up(folder: PathBuf) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            if command::find(tool).is_none() {
                bail!("there is no {tool}: the guests' kernels are packages of Debian");
            }
        }
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: run `apt-get install debian-archive-keyring`");
        }
        for below in ["lists/partial", "archives/partial", "preferences.d"] {
            let below = folder.join(below);
            std::fs::create_dir_all(&below)
                .with_context(|| format!("cannot make {}", below.display()))?;
        }
        let apt = Self { folder };
        apt.write("sources.list", &sources())?;
        apt.write("apt.conf", &configuration(&apt.folder))?;
        // No package counts as installed: what the emulator needs is fetched whole, and runs on
        // any host.
        apt.write("status", "")?;
        apt.refresh()?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn refresh(&self) -> Result<()> {
        let stamp = self.folder.join("lists-fetched");
        let written = std::fs::metadata(&stamp).and_then(|meta| meta.modified()).ok();
        let age = written.and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age < LISTS_KEEP) {
            return Ok(());
        }
        println!("fetching lists of packages");
        // Without this mode a suite that cannot be had is a warning.
        let arguments = ["update", "-qq", "-o", "APT::Update::Error-Mode=any"];
        match command::run(&mut self.command("apt-get", &arguments)) {
            Ok(()) => self.write("lists-fetched", ""),
            Err(error) if written.is_some() => {
                println!("using the lists from before: {error:#}");
                Ok(())
            }
            Err(error) => Err(error.context("cannot fetch Debian's lists of packages")),
        }
    }

    fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = command::of(tool, arguments);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        command
    }

    /// The names of all packages that begin so, one on each line.
    ///
    /// # Errors
    /// When apt does not tell.
    pub fn names(&self, prefix: &str) -> Result<String> {
        command::output(&mut self.command("apt-cache", &["pkgnames", prefix]))
    }

    /// Fetches these packages, with what they depend on when `whole`, and unpacks them into `into`.
    /// The packages themselves are not kept. Returns their size in bytes.
    ///
    /// # Errors
    /// When one cannot be had, is not what Debian signed, or cannot be unpacked.
    pub fn unpack(&self, packages: &[&str], whole: bool, into: &Path) -> Result<u64> {
        let archives = self.folder.join("archives");
        let before = archives_in(&archives)?;
        for stale in before {
            std::fs::remove_file(&stale)
                .with_context(|| format!("cannot remove {}", stale.display()))?;
        }
        println!("fetching {}", packages.join(" "));
        let arguments: &[&str] = if whole {
            &["install", "--download-only", "-y", "-qq", "--no-install-recommends"]
        } else {
            &["download", "-qq"]
        };
        let mut fetch = self.command("apt-get", arguments);
        command::run(fetch.args(packages).current_dir(&archives))?;
        let mut bytes = 0;
        for archive in archives_in(&archives)? {
            bytes += std::fs::metadata(&archive).map_or(0, |meta| meta.len());
            command::run(command::of("dpkg-deb", &["-x"]).arg(&archive).arg(into))?;
            std::fs::remove_file(&archive)
                .with_context(|| format!("cannot remove {}", archive.display()))?;
        }
        Ok(bytes)
    }
}

fn archives_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect())
}

fn sources() -> String {
    let line = |(place, suites): &(&str, &str)| {
        let one = |suite| format!("deb [arch=amd64 signed-by={KEYRING}] {place} {suite} main\n");
        suites.split(' ').map(one).collect::<String>()
    };
    SUITES.iter().map(line).collect()
}

/// apt's configuration. It is read before the host's own, whose hooks and proxies still count.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::State \"{folder}\";\n\
         Dir::State::lists \"{folder}/lists\";\n\
         Dir::State::status \"{folder}/status\";\n\
         Dir::Cache \"{folder}\";\n\
         Dir::Cache::archives \"{folder}/archives\";\n\
         Dir::Etc::sourcelist \"{folder}/sources.list\";\n\
         Dir::Etc::sourceparts \"-\";\n\
         Dir::Etc::preferencesparts \"{folder}/preferences.d\";\n\
         APT::Architecture \"amd64\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         # The user that apt fetches as may not be able to write into a clone.\n\
         APT::Sandbox::User \"root\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_signed() {
        let sources = sources();
        assert_eq!(sources.lines().count(), 5);
        for line in sources.lines() {
            assert!(line.contains("signed-by=/usr/share/keyrings/debian-archive-"), "{line}");
            assert!(!line.contains("trusted"), "{line}");
        }
    }

    #[test]
    fn nothing_of_the_host_is_written() {
        let text = configuration(Path::new("/cache"));
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            assert!(line.contains("\"/cache") || line.contains("\"-\""), "{line}");
        }
    }
}
