//! What this kernel and this process's surroundings allow, and the command that would change it.
//!
//! # Layout
//! - `finding`: one answer, as the user reads it;
//! - `answers`: the questions that only the kernel can answer, asked by system calls;
//! - `bpf`, `perf`, `processes`, `pressure`, `files`: the findings, each from [`Answers`] and from files below
//!   [`Roots`], so that tests can make up a host.
//!
//! Must not: load or attach probes (whether a hook works is known by attaching it), or change
//! anything.

mod answers;
mod bpf;
mod files;
mod finding;
mod perf;
mod pressure;
mod processes;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use self::answers::Answers;
pub use self::bpf::usercopy_deadlock;
pub use self::finding::{Finding, State};
use super::capabilities::{Held, advice};
use super::release::Release;

/// Bytes read of any file; the largest, a kernel's configuration, has 300 KiB.
const MAX_BYTES: u64 = 4 << 20;

/// Where the kernel's file systems are.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/boot`, for the kernel's configuration.
    pub boot: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), boot: "/boot".into(), dev: "/dev".into() }
    }
}

impl Roots {
    /// The text of a file in `/proc`; `None` if it cannot be read.
    fn proc(&self, path: &str) -> Option<String> {
        read(&self.proc.join(path))
    }

    /// The text of a file in `/sys`; `None` if it cannot be read.
    fn sys(&self, path: &str) -> Option<String> {
        read(&self.sys.join(path))
    }

    /// A number in a file of `/proc/sys`.
    fn sysctl(&self, path: &str) -> Option<i64> {
        self.proc(&format!("sys/{path}"))?.trim().parse().ok()
    }

    /// The kernel's release.
    pub fn release(&self) -> Option<Release> {
        Release::parse(&self.proc("sys/kernel/osrelease")?)
    }
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Everything there is to know, in the order a person wants to read it. Blocks: reads files, and
/// parses the kernel's type information.
pub fn inspect(roots: &Roots, held: &Held, answers: &Answers, dump_dir: &Path) -> Vec<Finding> {
    // Without a release the newest needs are assumed: too much advice is better than none.
    let release = roots.release();
    let assumed = release.unwrap_or(Release::new(u32::MAX, 0));
    let mut findings = capabilities(held, assumed);
    findings.extend(bpf::findings(roots, release, held, answers));
    findings.extend(perf::findings(roots, answers));
    findings.extend(processes::findings(roots, held));
    findings.push(pressure::finding(roots));
    findings.extend(files::findings(roots, dump_dir));
    findings
}

fn capabilities(held: &Held, release: Release) -> Vec<Finding> {
    let missing = held.missing(release);
    // One piece of advice for all: they are given in one list.
    let mut fix = Some(advice(&missing));
    super::capabilities::needs(release)
        .into_iter()
        .map(|need| {
            let finding = if held.has(need.capability) {
                Finding::ok(need.name(), need.enables, "in effect")
            } else if need.essential {
                Finding::missing(need.name(), need.enables, "not in effect")
            } else {
                Finding::degraded(need.name(), need.enables, "not in effect")
            };
            let absent = finding.state != State::Ok;
            Finding {
                essential: need.essential,
                fix: if absent { fix.take() } else { None },
                ..finding
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
