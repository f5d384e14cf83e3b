//! What /proc says of a process: its CPU time, its memory, the memory of its BPF maps and programs.
//!
//! Must not: be asked of processes that the benchmark did not start.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

/// CPU time that the process has used so far, in nanoseconds: of the threads that it has now.
///
/// # Errors
/// When it has ended.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    // A thread that has just ended has no file any more.
    let times =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    Ok(times.filter_map(|text| first_number(&text)).sum())
}

/// The first number of /proc/PID/schedstat: nanoseconds on a CPU.
fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// A process' CPU time from some moment on.
#[derive(Debug)]
pub struct CpuClock {
    pid: u32,
    from: Instant,
    cpu_ns: u64,
}

impl CpuClock {
    /// From now on.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn start(pid: u32) -> Result<Self> {
        Ok(Self { pid, cpu_ns: cpu_ns(pid)?, from: Instant::now() })
    }

    /// Percent of one CPU that it has used since.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn percent(&self) -> Result<f64> {
        let spent = cpu_ns(self.pid)?.saturating_sub(self.cpu_ns);
        Ok(100.0 * spent as f64 / self.from.elapsed().as_nanos() as f64)
    }
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, without what is mapped of BPF maps.
    pub resident: u64,
    /// Its BPF maps and programs.
    pub kernel: u64,
}

impl Memory {
    /// Reads it.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn of(pid: u32) -> Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let smaps = proc.join("smaps");
        let smaps = fs::read_to_string(&smaps)
            .with_context(|| format!("cannot read {}", smaps.display()))?;
        let entries = fs::read_dir(proc.join("fdinfo"))
            .with_context(|| format!("cannot list the descriptors of process {pid}"))?;
        // A descriptor that was just closed has no file any more.
        let infos = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        // By what it is and its number: two descriptors may be of one map.
        let objects: BTreeMap<(bool, u64), u64> =
            infos.filter_map(|info| bpf_object(&info)).collect();
        Ok(Self { resident: resident(&smaps), kernel: objects.values().sum() })
    }

    /// All of it, in 2^20 bytes.
    pub fn mebibytes(self) -> f64 {
        (self.resident + self.kernel) as f64 / f64::from(1 << 20)
    }
}

/// The resident bytes of /proc/PID/smaps, but for mapped BPF maps: those are kernel memory, which
/// [`bpf_object`] counts.
fn resident(smaps: &str) -> u64 {
    let (mut sum, mut is_bpf) = (0, false);
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(rest) if !is_bpf => sum += first_number(rest).unwrap_or(0) * 1024,
            Some(_) => {}
            // `start-end perms offset device inode path` begins a mapping.
            None if line.split(' ').next().is_some_and(|word| word.contains('-')) => {
                is_bpf = line.contains("anon_inode:bpf");
            }
            None => {}
        }
    }
    sum
}

/// The BPF map (`true`) or program of a descriptor's /proc/PID/fdinfo, its id, and its bytes.
fn bpf_object(fdinfo: &str) -> Option<((bool, u64), u64)> {
    let value = |key: &str| fdinfo.lines().find_map(|line| line.strip_prefix(key));
    let number = |key: &str| value(key).and_then(first_number);
    let map = number("map_id:").map(|id| (true, id));
    let object = map.or_else(|| number("prog_id:").map(|id| (false, id)))?;
    Some((object, number("memlock:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_bpf_maps_are_not_counted_twice() {
        let smaps = "55d0-55e0 r-xp 00000000 fe:00 12  /usr/bin/x\nSize:  64 kB\nRss:   40 kB\n\
                     7f00-7f10 rw-s 00000000 00:0e 9  anon_inode:bpf-map\nRss:   4096 kB\n\
                     7f20-7f30 rw-p 00000000 00:00 0 \nRss:    8 kB\nVmFlags: rd wr\n";
        assert_eq!(resident(smaps), 48 * 1024);
    }

    #[test]
    fn only_maps_and_programs_have_kernel_memory() {
        let map = "pos:\t0\nmap_type:\t27\nmemlock:\t4096\nmap_id:\t7\n";
        assert_eq!(bpf_object(map), Some(((true, 7), 4096)));
        let program = "prog_type:\t7\nmemlock:\t8192\nprog_id:\t7\nrun_cnt:\t1\n";
        assert_eq!(bpf_object(program), Some(((false, 7), 8192)));
        assert_eq!(bpf_object("pos:\t0\nflags:\t02\nmemlock:\t1\n"), None);
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        assert!(cpu_ns(std::process::id()).unwrap() > 0);
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.resident > 1 << 16, "{memory:?}");
        assert!(cpu_ns(u32::MAX).is_err());
    }
}
