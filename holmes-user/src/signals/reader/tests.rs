//! Readings of made-up hosts, and of this one.

mod memory;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::made_up_host::{Host, MIB, Values};
use super::*;
use crate::collect::CgroupId;
use crate::kernel::cgroupfs::Layout;

fn unified() -> Host {
    Host::new().mount("cg", "cgroup2 cgroup2 rw")
}

fn v1() -> Host {
    Host::new()
        .mount("memory", "cgroup cgroup rw,memory")
        .mount("cpu", "cgroup cgroup rw,cpu,cpuacct")
        .mount("pids", "cgroup cgroup rw,pids")
}

fn app_v2(host: &Host, usage_usec: u64) {
    host.cgroup("cg/app", &[7]);
    host.write("cg/app/cpu.stat", &format!("usage_usec {usage_usec}\nuser_usec 1\n"));
    host.write("cg/app/memory.current", &format!("{}\n", 300 * MIB));
    host.write("cg/app/memory.stat", &format!("anon 5\ninactive_file {}\n", 50 * MIB));
    host.write("cg/app/pids.current", "12\n");
}

#[test]
fn a_v2_cgroup_against_its_own_limits() {
    let mut host = unified();
    app_v2(&host, 1_000_000);
    host.write("cg/app/cpu.max", "50000 100000\n");
    host.write("cg/app/memory.max", &format!("{}\n", 500 * MIB));
    let mut reader = host.cgroups(&["/app"]);
    assert_eq!(host.read(&mut reader).of("/app"), [None, Some(50.0), Some(12.0)]);
    // Half a second in five, of half a CPU.
    app_v2(&host, 1_500_000);
    assert_eq!(host.read(&mut reader).of("/app"), [Some(20.0), Some(50.0), Some(12.0)]);
}

#[test]
fn a_v2_cgroup_without_limits_is_measured_against_the_host() {
    let mut host = unified();
    app_v2(&host, 0);
    host.write("cg/app/cpu.max", "max 100000\n");
    host.write("cg/app/memory.max", "max\n");
    let mut reader = host.cgroups(&["/app"]);
    host.read(&mut reader);
    app_v2(&host, 5_000_000);
    assert_eq!(host.read(&mut reader).of("/app"), [Some(25.0), Some(25.0), Some(12.0)]);
}

#[test]
fn the_nearest_limit_above_counts_and_one_above_the_hosts_does_not() {
    let mut host = unified();
    app_v2(&host, 0);
    fs::rename(host.path("cg/app"), host.path("cg/inner")).unwrap();
    host.cgroup("cg/top/pod", &[]);
    fs::rename(host.path("cg/inner"), host.path("cg/top/pod/app")).unwrap();
    host.write("cg/top/cpu.max", "100000 100000\n");
    host.write("cg/top/pod/cpu.max", "200000 100000\n");
    host.write("cg/top/pod/app/cpu.max", "max 100000\n");
    host.write("cg/top/pod/memory.max", &format!("{}\n", 9000 * MIB));
    let mut reader = host.cgroups(&["/top/pod/app"]);
    host.read(&mut reader);
    host.write("cg/top/pod/app/cpu.stat", "usage_usec 5000000\n");
    let values = host.read(&mut reader).of("/top/pod/app");
    assert_eq!(values, [Some(50.0), Some(25.0), Some(12.0)]);
}

#[test]
fn a_v1_cgroup_is_put_together_from_its_hierarchies() {
    let mut host = v1();
    for mount in ["memory", "cpu", "pids"] {
        host.cgroup(&format!("{mount}/app"), &[7]);
    }
    host.write("memory/app/memory.usage_in_bytes", &(300 * MIB).to_string());
    let stat = format!(
        "inactive_file 3\nhierarchical_memory_limit {}\ntotal_inactive_file {}\n",
        500 * MIB,
        50 * MIB
    );
    host.write("memory/app/memory.stat", &stat);
    host.write("cpu/app/cpuacct.usage", "1000000000\n");
    host.write("cpu/app/cpu.cfs_quota_us", "-1\n");
    host.write("cpu/cpu.cfs_quota_us", "200000\n");
    host.write("cpu/cpu.cfs_period_us", "100000\n");
    host.write("pids/app/pids.current", "12\n");
    let mut reader = host.cgroups(&["/app"]);
    assert_eq!(host.read(&mut reader).of("/app"), [None, Some(50.0), Some(12.0)]);
    host.write("cpu/app/cpuacct.usage", "2000000000\n");
    assert_eq!(host.read(&mut reader).of("/app"), [Some(10.0), Some(50.0), Some(12.0)]);
}

#[test]
fn an_empty_twin_in_another_hierarchy_is_not_believed() {
    let mut host = v1();
    host.cgroup("memory/app", &[7]);
    host.write("memory/app/tasks", "7\n8\n");
    for mount in ["cpu", "pids"] {
        host.cgroup(&format!("{mount}/app"), &[]);
    }
    host.write("cpu/app/cpuacct.usage", "0\n");
    host.write("pids/app/pids.current", "0\n");
    host.process(7, b"app", 0, 2, 100 * MIB / procfs::page_size(), 1);
    let mut reader = host.cgroups(&["/app"]);
    host.read(&mut reader);
    let values = host.read_sampled(&mut reader, Some(Duration::from_secs(2)));
    assert_eq!(values.of("/app"), [Some(10.0), Some(10.0), Some(2.0)]);
}

#[test]
fn on_a_hybrid_host_the_unified_twin_helps_out() {
    let mut host = Host::new()
        .mount("memory", "cgroup cgroup rw,memory")
        .mount("unified", "cgroup2 cgroup2 rw");
    host.cgroup("memory/app", &[7]);
    host.write("memory/app/memory.usage_in_bytes", &(100 * MIB).to_string());
    host.write("memory/app/memory.stat", "hierarchical_memory_limit 9223372036854771712\n");
    host.write("memory/app/tasks", "7\n");
    host.cgroup("unified/app", &[7]);
    host.write("unified/app/cpu.stat", "usage_usec 0\n");
    let layout = Layout::from_mountinfo(&host.mountinfo);
    let app = layout.locate(&host.path("memory/app").canonicalize().unwrap()).unwrap();
    let mut reader = SignalReader::of_cgroups(host.sources(), &[app]);
    host.read(&mut reader);
    host.write("unified/app/cpu.stat", "usage_usec 1000000\n");
    assert_eq!(host.read(&mut reader).of("/app"), [Some(5.0), Some(10.0), Some(1.0)]);
}

#[test]
fn without_controllers_the_tasks_and_the_probes_are_asked() {
    let mut host = unified();
    let pages = 50 * MIB / procfs::page_size();
    host.cgroup("cg/app", &[7]);
    host.write("cg/app/cgroup.threads", "7\n71\n72\n");
    host.cgroup("cg/app/inner", &[8, 9]);
    host.write("cg/app/inner/cgroup.threads", "8\n9\n");
    host.process(7, b"app", 0, 3, pages, 1);
    host.process(8, b"worker", 0, 1, pages, 1);
    // 9 has just gone.
    let mut reader = host.cgroups(&["/app"]);
    let second = Some(Duration::from_secs(1));
    let first = host.read_sampled(&mut reader, second);
    assert_eq!(first.of("/app"), [None, Some(10.0), Some(5.0)]);
    let then = host.read_sampled(&mut reader, second);
    assert_eq!(then.of("/app"), [Some(5.0), Some(10.0), Some(5.0)]);
    // Nor do the probes know: there is no value, not a zero.
    assert_eq!(host.read(&mut reader).of("/app"), [None, Some(10.0), Some(5.0)]);
}

#[test]
fn threaded_cgroups_are_asked_in_another_way() {
    let mut host = unified();
    host.cgroup("cg/app", &[7]);
    host.cgroup("cg/app/threaded", &[]);
    // The kernel refuses to read these; a made-up host does not have them.
    fs::remove_file(host.path("cg/app/threaded/cgroup.procs")).unwrap();
    host.write("cg/app/threaded/cgroup.threads", "71\n72\n");
    for tid in [71, 72] {
        host.write(&format!("proc/{tid}/status"), &format!("Name:\tx\nTgid:\t7\nPid:\t{tid}\n"));
    }
    host.process(7, b"app", 0, 3, 100 * MIB / procfs::page_size(), 1);
    let mut reader = host.cgroups(&["/app"]);
    let [_, memory, threads] = host.read(&mut reader).of("/app");
    // The process counts once, however many of its threads are found; /app itself lists no
    // threads, so that those of its process stand for them.
    assert_eq!((memory, threads), (Some(10.0), Some(5.0)));
}

#[test]
fn the_root_of_a_hierarchy_is_the_host() {
    let mut host = unified();
    host.write("cg/cpu.stat", "usage_usec 0\n");
    let mut reader = host.cgroups(&["/"]);
    host.read(&mut reader);
    host.write("cg/cpu.stat", "usage_usec 10000000\n");
    assert_eq!(host.read(&mut reader).of("/"), [Some(50.0), Some(40.0), Some(321.0)]);
}

#[test]
fn the_host_as_a_whole() {
    let mut host = unified();
    let mut reader = SignalReader::of_host(host.sources());
    let first = host.read(&mut reader);
    assert_eq!(first.of("host"), [None, Some(40.0), Some(321.0)]);
    assert_eq!(first.0.host_cpu, 0.0);
    host.cpu_ticks(300, 700);
    let then = host.read(&mut reader);
    assert_eq!(then.of("host"), [Some(30.0), Some(40.0), Some(321.0)]);
    assert_eq!(then.0.host_cpu, 30.0);
}

#[test]
fn the_host_is_read_without_any_cgroups_and_without_any_proc() {
    let mut host = Host::new();
    let mut reader = SignalReader::of_host(host.sources());
    assert_eq!(host.read(&mut reader).of("host"), [None, Some(40.0), Some(321.0)]);
    fs::remove_dir_all(host.path("proc")).unwrap();
    assert_eq!(host.read(&mut reader).0.readings, []);
}

#[test]
fn a_process_with_a_hostile_name() {
    let mut host = unified();
    let pages = 100 * MIB / procfs::page_size();
    let name = b") R 1 (\xff\n)";
    host.process(7, name, 0, 3, pages, 1);
    let mut reader = SignalReader::of_processes(host.sources(), &[7, 8]);
    assert_eq!(host.read(&mut reader).of("7"), [None, Some(10.0), Some(3.0)]);
    assert_eq!(reader.absent(), 1);
    host.process(7, name, procfs::ticks_per_second() * 2, 4, pages, 1);
    assert_eq!(host.read(&mut reader).of("7"), [Some(10.0), Some(10.0), Some(4.0)]);
}

#[test]
fn a_process_is_measured_against_the_limits_of_its_cgroup() {
    let mut host = unified();
    host.cgroup("cg/app", &[7]);
    host.write("cg/app/cpu.max", "100000 100000\n");
    host.write("cg/app/memory.max", &(200 * MIB).to_string());
    let process = |host: &Host, seconds: u64| {
        let ticks = seconds * procfs::ticks_per_second();
        host.process(7, b"app", ticks, 1, 100 * MIB / procfs::page_size(), 1);
    };
    process(&host, 0);
    host.write("proc/7/cgroup", "1:name=systemd:/x\n0::/app\n");
    let mut reader = SignalReader::of_processes(host.sources(), &[7]);
    host.read(&mut reader);
    process(&host, 1);
    assert_eq!(host.read(&mut reader).of("7"), [Some(20.0), Some(50.0), Some(1.0)]);
}

#[test]
fn another_process_with_the_same_pid_is_not_the_target() {
    let mut host = unified();
    host.process(7, b"app", 500, 1, 100, 1);
    let mut reader = SignalReader::of_processes(host.sources(), &[7]);
    host.read(&mut reader);
    host.process(7, b"other", 900, 1, 100, 2);
    assert_eq!(host.read(&mut reader).of("7"), [None; 3]);
}

#[test]
fn a_cgroup_that_is_gone_is_absent_and_starts_anew_when_it_comes_back() {
    let mut host = unified();
    app_v2(&host, 8_000_000);
    let mut reader = host.cgroups(&["/app"]);
    host.read(&mut reader);
    fs::remove_dir_all(host.path("cg/app")).unwrap();
    assert_eq!(host.read(&mut reader).of("/app"), [None; 3]);
    assert_eq!(reader.absent(), 1);
    app_v2(&host, 1_000_000);
    // Its clock began again: a difference would be nonsense.
    assert_eq!(host.read(&mut reader).of("/app")[0], None);
    app_v2(&host, 2_000_000);
    assert_eq!(host.read(&mut reader).of("/app")[0], Some(5.0));
}

#[test]
fn two_readings_at_one_time_give_no_cpu_value() {
    let mut host = unified();
    app_v2(&host, 0);
    let mut reader = host.cgroups(&["/app"]);
    host.read(&mut reader);
    app_v2(&host, 5);
    let frame = Values(reader.read(host.now, &|_| None));
    assert_eq!(frame.of("/app")[0], None);
}

#[test]
fn the_whole_host_follows_the_populated_cgroups() {
    let mut host = unified();
    let cgroup = |number: usize| {
        let path = format!("/c{number:05}");
        Arc::new(Cgroup { id: CgroupId(number as u64), path, container: None })
    };
    let mut reader = SignalReader::of_host(host.sources());
    let root = Arc::new(Cgroup { id: CgroupId(1), path: "/".into(), container: None });
    reader.set_cgroups(&[root, cgroup(7), cgroup(3)]);
    let names: Vec<_> = reader.targets().map(Target::to_string).collect();
    assert_eq!(names, ["host", "cgroup /c00003", "cgroup /c00007"]);

    // A crowd comes: what was read before stays.
    let crowd: Vec<_> = (100..100 + MAX_TRACKED).chain([7]).map(cgroup).collect();
    reader.set_cgroups(&crowd);
    assert_eq!((reader.targets().count(), reader.left_out()), (MAX_TRACKED, 2));
    assert!(reader.targets().any(|target| target.to_string() == "cgroup /c00007"));
    assert!(!reader.targets().any(|target| target.to_string() == "cgroup /c00003"));
    assert_eq!(host.read(&mut reader).of("host")[2], Some(321.0));
    assert_eq!(reader.absent(), MAX_TRACKED - 1);
}

#[test]
fn readings_come_in_a_fixed_order() {
    let mut host = unified();
    app_v2(&host, 0);
    host.cgroup("cg/b", &[]);
    let frame = {
        let mut reader = host.cgroups(&["/b", "/app", "/app"]);
        host.read(&mut reader).0
    };
    let order: Vec<_> = frame
        .readings
        .iter()
        .map(|reading| format!("{} {}", reading.target, reading.signal.name()))
        .collect();
    let expect = ["/app memory", "/app threads", "/b memory", "/b threads"];
    assert_eq!(order, expect.map(|name| format!("cgroup {name}")));
}

/// A cgroup of this machine's own hierarchy, removed at the end.
struct OwnCgroup(PathBuf);

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // The process in it has just been reaped; the kernel may take a moment to let it go.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A shell that takes 8 MiB when it is told to, says so, and waits. Memory is charged to the cgroup
/// that a process is in when it takes it, so that it must be moved before.
const TAKES_MEMORY: &str =
    r#"read go; text=$(head -c 8388608 /dev/zero | tr '\0' x); echo ${#text}; read end"#;

#[test]
fn a_cgroup_of_this_machine() {
    let layout = Layout::read().unwrap();
    let mount = layout.watched().expect("a mounted cgroup hierarchy").clone();
    let name = format!("holmes-signals-test-{}", std::process::id());
    let cgroup = OwnCgroup(mount.point.join(&name));
    if let Err(error) = fs::create_dir(&cgroup.0) {
        // Making a cgroup needs root, and a mount that may be written.
        assert!(
            matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem),
            "{error}"
        );
        return;
    }
    let mut shell = Command::new("sh")
        .args(["-c", TAKES_MEMORY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(cgroup.0.join("cgroup.procs"), shell.id().to_string()).unwrap();
    shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut taken = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut taken).unwrap();

    let located = layout.locate(Path::new(&name)).unwrap();
    let mut reader = SignalReader::of_cgroups(Sources::new(layout), std::slice::from_ref(&located));
    let sampled = |_: &Target| Some(Duration::ZERO);
    let first = Values(reader.read(Nanos::from_secs(1), &sampled));
    let then = Values(reader.read(Nanos::from_secs(2), &sampled));
    // The end of its input ends it.
    drop(shell.stdin.take());
    shell.wait().unwrap();

    assert_eq!(taken.trim(), "8388608");
    assert_eq!(located.path, format!("{}/{name}", mount.root.trim_end_matches('/')));
    assert_eq!(first.of(&located.path)[0], None);
    let [cpu, memory, threads] = then.of(&located.path);
    assert!(cpu.is_some_and(|percent| percent >= 0.0), "{cpu:?}");
    let total = HostUsage::read(&reader.sources).memory_total.unwrap();
    let taken = 100.0 * (8 * MIB) as f64 / total as f64;
    assert!(memory.is_some_and(|percent| percent >= taken && percent < 100.0), "{memory:?}");
    assert_eq!(threads, Some(1.0));
}
