//! What the kernel has counted: the probes' counters, the cgroups' totals, and what the programs
//! and maps themselves cost.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::{HashMap, PerCpuArray};
use holmes_common::counter::{CgroupTotals, Counter};
use tracing::debug;

use super::probes::Probes;

/// The probes' counters since they were loaded, summed over CPUs, in the order of
/// [`Counter::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts(Vec<u64>);

impl KernelCounts {
    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }
}

/// What one program has cost since it was loaded. Zero unless `kernel.bpf_stats_enabled` is 1,
/// but for the misses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramUse {
    /// The program.
    pub name: String,
    /// Runs.
    pub runs: u64,
    /// Time in all runs, in nanoseconds.
    pub run_time_ns: u64,
    /// Runs that the kernel skipped, because the program was running on that CPU already.
    pub misses: u64,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// The map.
    pub name: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries it has room for.
    pub max_entries: u64,
}

/// `CgroupTotals` may be copied out of a map as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct TotalsPod(CgroupTotals);

// SAFETY: sixteen `u64` without padding (asserted beside its definition); any bytes are valid.
unsafe impl Pod for TotalsPod {}

impl Probes {
    /// Reads the counters. What cannot be read counts as zero, and is logged.
    pub fn counts(&self) -> KernelCounts {
        let Some(map) = self.ebpf.map("COUNTS") else {
            return KernelCounts::default();
        };
        let counts = match PerCpuArray::<_, u64>::try_from(map) {
            Ok(counts) => counts,
            Err(error) => {
                debug!("COUNTS: {error}");
                return KernelCounts::default();
            }
        };
        let sum = |counter: &Counter| {
            counts.get(&(*counter as u32), 0).map_or(0, |cpus| cpus.iter().sum())
        };
        KernelCounts(Counter::ALL.iter().map(sum).collect())
    }

    /// Reads the totals of every cgroup, by its id.
    pub fn cgroup_totals(&self) -> Vec<(u64, CgroupTotals)> {
        let Some(map) = self.ebpf.map("CGROUP_TOTALS") else {
            return Vec::new();
        };
        let Ok(totals) = HashMap::<_, u64, TotalsPod>::try_from(map) else {
            return Vec::new();
        };
        // An entry that disappears while the map is walked is skipped.
        totals.iter().filter_map(Result::ok).map(|(id, totals)| (id, totals.0)).collect()
    }

    /// Forgets the totals of a cgroup that is gone.
    pub fn forget_cgroup(&mut self, id: u64) {
        let Some(map) = self.ebpf.map_mut("CGROUP_TOTALS") else {
            return;
        };
        if let Ok(mut totals) = HashMap::<_, u64, TotalsPod>::try_from(map) {
            // It may never have had any.
            let _ = totals.remove(&id);
        }
    }

    /// What each loaded program has cost, as the kernel states in `/proc/self/fdinfo`.
    pub fn program_uses(&self) -> Vec<ProgramUse> {
        self.ebpf
            .programs()
            .filter_map(|(name, program)| {
                let fd = program.fd().ok()?;
                let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
                Some(parse_fdinfo(name, &fs::read_to_string(path).ok()?))
            })
            .collect()
    }

    /// How full the maps are that can be full.
    pub fn map_uses(&self, cgroups: usize) -> Vec<MapUse> {
        vec![MapUse {
            name: "CGROUP_TOTALS",
            entries: cgroups as u64,
            max_entries: u64::from(holmes_common::limits::MAX_CGROUPS),
        }]
    }
}

/// Lines of `key:<tab>value`.
fn parse_fdinfo(name: &str, text: &str) -> ProgramUse {
    let mut program = ProgramUse { name: name.to_owned(), ..ProgramUse::default() };
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let Ok(value) = value.trim().parse() else { continue };
        match key {
            "run_cnt" => program.runs = value,
            "run_time_ns" => program.run_time_ns = value,
            "recursion_misses" => program.misses = value,
            _ => {}
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_of_a_program() {
        let text =
            "pos:\t0\nprog_type:\t7\nrun_time_ns:\t1500\nrun_cnt:\t3\nrecursion_misses:\t2\n";
        let expect = ProgramUse { name: "sample".into(), runs: 3, run_time_ns: 1500, misses: 2 };
        assert_eq!(parse_fdinfo("sample", text), expect);
    }

    #[test]
    fn fdinfo_of_an_old_kernel_has_fewer_lines() {
        assert_eq!(parse_fdinfo("x", "garbage\nrun_cnt:\tmany\n").runs, 0);
    }
}
