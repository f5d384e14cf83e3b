//! Where the memory of a target is at one moment: its processes by size, what they have it mapped as,
//! and what its cgroup counts.
//!
//! Formats: Documentation/filesystems/proc.rst (`smaps`), admin-guide/cgroup-v2.rst and
//! cgroup-v1/memory.rst (`memory.stat`).
//!
//! Must not: keep anything, or look at more processes than a constant allows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sources::{Sources, number, text};
use super::{Target, cgroup_usage, process_usage};
use crate::kernel::cgroupfs::{Hierarchy, Mount};

/// Processes that are named, the largest first: the others' sum is told.
const MAX_NAMED: usize = 32;

/// Processes whose mappings are read, the largest first. The kernel walks their page tables for it.
const MAX_MAPPED: usize = 8;

/// Processes with more bytes resident are not looked at so: it took 12 ms for each GiB in small pages,
/// during which the process cannot map anything.
const MAX_MAPPED_BYTES: u64 = 4 << 30;

/// Bytes read of a process's mappings: some ten thousand mappings. A process can have more than that.
const MAX_SMAPS_BYTES: u64 = 16 << 20;

/// Lines of `memory.stat` kept. Kernels have about sixty.
const MAX_STATS: usize = 128;

/// Where the memory of a target is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Processes of the target.
    pub processes: u64,
    /// Bytes resident of all of them. Pages that two of them share count twice.
    pub resident_bytes: u64,
    /// The largest of them.
    pub largest: Vec<ProcessMemory>,
    /// What its cgroup counts; absent where no controller does.
    pub cgroup: Option<CgroupMemory>,
    /// Where memory ran out, if that is not the target itself: above it, or on the whole host.
    #[serde(default)]
    pub around: Option<Around>,
}

/// What shared a limit with a target, or the host's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Around {
    /// The cgroup whose limit it was; absent where it was the host's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Bytes resident of all processes there. Pages that two of them share count twice.
    pub resident_bytes: u64,
    /// The largest of them.
    pub largest: Vec<ProcessMemory>,
}

/// The memory of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// Its id, in the initial pid namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Bytes resident.
    pub resident_bytes: u64,
    /// The same by what they are; absent where nobody looked (more than 4 GiB, or not among the eight
    /// largest), or the process had gone.
    pub mappings: Option<Mappings>,
}

/// Resident bytes by kind of mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    /// `[heap]`: what `brk` gave.
    pub heap_bytes: u64,
    /// The first thread's stack. Other threads' are anonymous memory.
    pub stack_bytes: u64,
    /// Other anonymous memory, private copies of files' pages among it.
    pub anonymous_bytes: u64,
    /// Pages of files.
    pub file_bytes: u64,
    /// Shared memory.
    pub shared_bytes: u64,
    /// Of all of these what is in huge pages.
    pub huge_bytes: u64,
    /// What was swapped out: not resident.
    pub swapped_bytes: u64,
}

/// What a memory controller counts of a cgroup with its descendants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupMemory {
    /// Bytes in use, with the page cache.
    pub usage_bytes: u64,
    /// The nearest limit, if there is one.
    pub limit_bytes: Option<u64>,
    /// The lines of `memory.stat`, those with descendants where there are both.
    pub stat: BTreeMap<String, u64>,
    /// The lines of `memory.events`, in v1 those of `memory.oom_control`: how often a limit was reached, and
    /// processes killed for it, since the cgroup was made.
    #[serde(default)]
    pub events: BTreeMap<String, u64>,
}

/// Reads where the memory of a target is. What has gone meanwhile is left out.
pub fn read(sources: &Sources, hierarchy: Option<Hierarchy>, target: &Target) -> MemoryReport {
    let sizes = sizes(sources, hierarchy, target);
    let cgroup = match target {
        Target::Cgroup { path, .. } => hierarchy
            .and_then(|hierarchy| cgroup_usage::memory_mount(sources, hierarchy, path))
            .and_then(|mount| of_cgroup(mount, path)),
        Target::Host | Target::Process { .. } => None,
    };
    MemoryReport {
        processes: sizes.len() as u64,
        resident_bytes: sum_of(&sizes),
        largest: largest(sources, &sizes, MAX_MAPPED),
        cgroup,
        around: None,
    }
}

/// Reads who has memory where it ran out: in a cgroup, or on the host. Nobody's mappings are read: of a whole
/// host that takes long, and the kill is now.
pub fn around(sources: &Sources, hierarchy: Option<Hierarchy>, cgroup: Option<String>) -> Around {
    let of_cgroup = |path: &String| Target::Cgroup { path: path.clone(), container: None };
    let place = cgroup.as_ref().map_or(Target::Host, of_cgroup);
    let sizes = sizes(sources, hierarchy, &place);
    Around { cgroup, resident_bytes: sum_of(&sizes), largest: largest(sources, &sizes, 0) }
}

/// The largest processes; the first of them with what they have mapped.
fn largest(sources: &Sources, sizes: &[(u64, u32)], mapped: usize) -> Vec<ProcessMemory> {
    let named = sizes.iter().take(MAX_NAMED).enumerate();
    let named = named.map(|(at, &(resident_bytes, pid))| ProcessMemory {
        pid,
        comm: comm(sources, pid),
        resident_bytes,
        mappings: (at < mapped && resident_bytes <= MAX_MAPPED_BYTES)
            .then(|| mappings(sources, pid))
            .flatten(),
    });
    named.collect()
}

/// Resident bytes and ids of a target's processes that have any, the largest first.
fn sizes(sources: &Sources, hierarchy: Option<Hierarchy>, target: &Target) -> Vec<(u64, u32)> {
    let pids = match target {
        Target::Process { pid } => vec![*pid],
        Target::Cgroup { path, .. } => hierarchy
            .map(|hierarchy| cgroup_usage::processes_of(sources, hierarchy, path))
            .unwrap_or_default(),
        Target::Host => sources.processes(),
    };
    let mut sizes: Vec<(u64, u32)> = pids
        .into_iter()
        .filter_map(|pid| Some((process_usage::resident(sources, pid)?.in_use, pid)))
        .filter(|(resident, _)| *resident > 0)
        .collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes
}

fn sum_of(sizes: &[(u64, u32)]) -> u64 {
    sizes.iter().fold(0, |sum, (size, _)| sum.saturating_add(*size))
}

fn comm(sources: &Sources, pid: u32) -> String {
    text(&sources.task(pid).join("comm")).map(|comm| comm.trim_end().to_owned()).unwrap_or_default()
}

fn of_cgroup(mount: &Mount, path: &str) -> Option<CgroupMemory> {
    let directory = mount.directory(path)?;
    let (usage, prefix, events) = match mount.hierarchy {
        Hierarchy::Unified => ("memory.current", "", "memory.events"),
        Hierarchy::V1 { .. } => ("memory.usage_in_bytes", "total_", "memory.oom_control"),
    };
    Some(CgroupMemory {
        usage_bytes: number(&directory.join(usage))?,
        limit_bytes: super::limits::memory(mount, path).filter(|limit| *limit < UNLIMITED),
        stat: counts(&directory.join("memory.stat"), prefix),
        events: counts(&directory.join(events), ""),
    })
}

/// The lines of a file, of those keys that begin like this.
fn counts(path: &Path, prefix: &str) -> BTreeMap<String, u64> {
    let text = text(path).unwrap_or_default();
    let lines = text.lines().take(MAX_STATS).filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key.strip_prefix(prefix)?.to_owned(), value.trim().parse().ok()?))
    });
    lines.collect()
}

/// v1 says "no limit" as the largest number of pages that there could be.
const UNLIMITED: u64 = 1 << 62;

fn mappings(sources: &Sources, pid: u32) -> Option<Mappings> {
    let smaps = File::open(sources.task(pid).join("smaps")).ok()?;
    let found = sum(BufReader::new(smaps.take(MAX_SMAPS_BYTES)));
    (found != Mappings::default()).then_some(found)
}

/// Sums up the text of `smaps`.
pub(super) fn sum(mut text: impl BufRead) -> Mappings {
    let mut sums = Mappings::default();
    let (mut heap, mut stack, mut shared_memory) = (false, false, false);
    let mut line = Vec::new();
    let (mut resident, mut anonymous) = (0, 0);
    loop {
        line.clear();
        let ended = text.read_until(b'\n', &mut line).map_or(true, |read| read == 0);
        let parsed = if ended { None } else { std::str::from_utf8(&line).ok().and_then(field) };
        let is_header = !ended && parsed.is_none() && is_header(&line);
        if ended || is_header {
            let file = u64::saturating_sub(resident, anonymous);
            let own = match (heap, stack) {
                (true, _) => &mut sums.heap_bytes,
                (_, true) => &mut sums.stack_bytes,
                _ => &mut sums.anonymous_bytes,
            };
            *own = own.saturating_add(anonymous);
            let rest = if shared_memory { &mut sums.shared_bytes } else { &mut sums.file_bytes };
            *rest = rest.saturating_add(file);
            (resident, anonymous) = (0, 0);
        }
        if ended {
            return sums;
        }
        if is_header {
            let name = name(&line);
            heap = name == b"[heap]";
            stack = name == b"[stack]";
            shared_memory = [&b"/dev/zero"[..], b"/memfd:", b"/SYSV", b"/dev/shm/"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        }
        match parsed {
            Some(("Rss", bytes)) => resident = bytes,
            Some(("Anonymous", bytes)) => anonymous = bytes,
            Some(("AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped", bytes)) => {
                sums.huge_bytes = sums.huge_bytes.saturating_add(bytes);
            }
            Some(("Swap", bytes)) => sums.swapped_bytes = sums.swapped_bytes.saturating_add(bytes),
            _ => {}
        }
    }
}

/// A line `Rss:    12 kB`, in bytes.
fn field(line: &str) -> Option<(&str, u64)> {
    let (key, value) = line.split_once(':')?;
    let value: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((key, value.saturating_mul(1024)))
}

/// Whether a line begins a mapping: `start-end permissions offset device inode name`. The name is the
/// target's choice, and may hold anything but a line's end.
fn is_header(line: &[u8]) -> bool {
    line.iter().take_while(|byte| **byte != b' ').any(|byte| *byte == b'-')
        && line.first().is_some_and(u8::is_ascii_hexdigit)
}

fn name(line: &[u8]) -> &[u8] {
    let mut rest = line;
    for _ in 0..5 {
        let word = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        rest = rest.get(word..).unwrap_or_default().trim_ascii_start();
    }
    rest.trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0-55d1 r-xp 00000000 08:01 42 /usr/bin/app
Size:                 8 kB
Rss:                  8 kB
Anonymous:            4 kB
AnonHugePages:        0 kB
VmFlags: rd ex mr mw me
55d2-55d9 rw-p 00000000 00:00 0 [heap]
Rss:                100 kB
Anonymous:          100 kB
Swap:                 3 kB
7f00-7f01 rw-p 00000000 00:00 0
Rss:               2048 kB
Anonymous:         2048 kB
AnonHugePages:     2048 kB
7f02-7f03 rw-s 00000000 00:01 9 /memfd:a b (deleted)
Rss:                 16 kB
Anonymous:            0 kB
7ffd-7ffe rw-p 00000000 00:00 0 [stack]
Rss:                 12 kB
Anonymous:           12 kB
";

    #[test]
    fn mappings_are_summed_by_kind() {
        let expect = Mappings {
            heap_bytes: 100 << 10,
            stack_bytes: 12 << 10,
            anonymous_bytes: 2052 << 10,
            file_bytes: 4 << 10,
            shared_bytes: 16 << 10,
            huge_bytes: 2048 << 10,
            swapped_bytes: 3 << 10,
        };
        assert_eq!(sum(SMAPS.as_bytes()), expect);
    }

    #[test]
    fn names_that_look_like_fields_are_names() {
        let hostile = "7f00-7f01 rw-p 0 00:00 7 /tmp/Rss: 9 kB\nRss: 4 kB\nAnonymous: 0 kB\n";
        assert_eq!(sum(hostile.as_bytes()).file_bytes, 4 << 10);
        assert_eq!(sum(&b"\xff\xfe-\xff\n\0\0"[..]), Mappings::default());
    }

    #[test]
    fn this_process_is_seen() {
        let sources = Sources::new(crate::kernel::cgroupfs::Layout::default());
        let pid = std::process::id();
        let report = read(&sources, None, &Target::Process { pid });
        assert_eq!((report.processes, report.largest[0].pid), (1, pid));
        let found = report.largest[0].mappings.unwrap();
        let Mappings { heap_bytes, stack_bytes, anonymous_bytes, file_bytes, shared_bytes, .. } =
            found;
        let sum = heap_bytes + stack_bytes + anonymous_bytes + file_bytes + shared_bytes;
        // The two were read one after the other, while other tests ran in this process.
        assert!(sum > report.resident_bytes / 2 && sum < report.resident_bytes * 2, "{report:?}");
    }
}
