//! Memory that cannot be taken back, its limits, and where the kernel warns of it.

use super::*;
use crate::signals::MemoryLimit;

/// Bytes of a target's memory that cannot be taken back, in MiB, with its limit and what is charged
/// to that.
fn held(host: &mut Host, reader: &mut SignalReader) -> (u64, Option<(u64, u64)>) {
    let memory = host.read(reader).0.memory;
    let [of_target] = memory.as_slice() else { panic!("{memory:?}") };
    let limit = |limit: MemoryLimit| (limit.bytes / MIB, limit.charged / MIB);
    (of_target.bytes / MIB, of_target.limit.map(limit))
}

fn v2_memory(host: &Host, path: &str, current: u64, max: &str) {
    host.cgroup(path, &[7]);
    host.write(&format!("{path}/memory.current"), &format!("{}\n", current * MIB));
    let stat = format!(
        "anon 1\ninactive_file {}\nactive_file {}\nslab_reclaimable {}\n",
        5 * MIB,
        20 * MIB,
        3 * MIB
    );
    host.write(&format!("{path}/memory.stat"), &stat);
    host.write(&format!("{path}/memory.max"), max);
}

#[test]
fn page_cache_is_not_held_and_the_nearest_limit_counts() {
    let mut host = unified();
    v2_memory(&host, "cg/app", 300, "max\n");
    let mut reader = host.cgroups(&["/app"]);
    assert_eq!(held(&mut host, &mut reader), (272, None));
    host.write("cg/app/memory.max", &format!("{}\n", 500 * MIB));
    assert_eq!(held(&mut host, &mut reader), (272, Some((500, 272))));
    // More than the host has.
    host.write("cg/app/memory.max", &format!("{}\n", 5000 * MIB));
    assert_eq!(held(&mut host, &mut reader), (272, None));
    // A neighbour is charged to the same limit above.
    v2_memory(&host, "cg/pod", 600, &format!("{}\n", 700 * MIB));
    v2_memory(&host, "cg/pod/app", 300, "max\n");
    let mut reader = host.cgroups(&["/pod/app"]);
    assert_eq!(held(&mut host, &mut reader), (272, Some((700, 572))));
}

#[test]
fn in_v1_a_limit_that_is_none_is_none() {
    let mut host = v1();
    host.cgroup("memory/app", &[7]);
    host.write("memory/app/memory.usage_in_bytes", &(300 * MIB).to_string());
    let stat = format!("total_inactive_file {}\ntotal_active_file {}\n", 50 * MIB, 30 * MIB);
    host.write("memory/app/memory.stat", &stat);
    host.write("memory/app/memory.limit_in_bytes", "9223372036854771712\n");
    let mut reader = host.cgroups(&["/app"]);
    assert_eq!(held(&mut host, &mut reader), (220, None));
    host.write("memory/app/memory.limit_in_bytes", &(400 * MIB).to_string());
    assert_eq!(held(&mut host, &mut reader), (220, Some((400, 220))));
}

#[test]
fn a_process_holds_what_is_its_own_within_the_limit_of_its_cgroup() {
    let mut host = unified();
    v2_memory(&host, "cg/app", 300, &format!("{}\n", 500 * MIB));
    host.process(7, b"app", 0, 1, 100 * MIB / procfs::page_size(), 1);
    let pages = |mib: u64| mib * MIB / procfs::page_size();
    host.write("proc/7/statm", &format!("99999 {} {} 0 0 0 0\n", pages(100), pages(30)));
    host.write("proc/7/cgroup", "0::/app\n");
    let mut reader = SignalReader::of_processes(host.sources(), &[7]);
    assert_eq!(held(&mut host, &mut reader), (70, Some((500, 272))));
}

#[test]
fn the_host_holds_what_is_not_available() {
    let mut host = unified();
    let mut reader = SignalReader::of_host(host.sources());
    assert_eq!(held(&mut host, &mut reader), (400, None));
}

/// The targets whose warnings can be waited for, with the file of the first.
fn places(reader: &SignalReader) -> Vec<String> {
    reader.warning_places().map(|place| place.target.to_string()).collect()
}

#[test]
fn warnings_are_those_of_the_host_of_what_is_named_and_of_what_has_a_limit() {
    let mut host = Host::new().mount("cg", "cgroup2 cgroup2 rw");
    host.write("cg/cgroup.controllers", "cpu memory\n");
    v2_memory(&host, "cg/limited", 300, &format!("{}\n", 500 * MIB));
    v2_memory(&host, "cg/free", 300, "max\n");
    let mut reader = SignalReader::of_host(host.sources());
    let cgroup =
        |path: &str| Arc::new(Cgroup { id: CgroupId(1), path: path.to_owned(), container: None });
    reader.set_cgroups(&[cgroup("/free"), cgroup("/limited")]);
    // Which have a limit is known once they were read.
    assert_eq!(places(&reader), ["host"]);
    host.read(&mut reader);
    assert_eq!(places(&reader), ["host", "cgroup /limited"]);
    let last = reader.warning_places().last().unwrap();
    assert_eq!(last.pressure, host.path("cg/limited/memory.pressure"));
    assert_eq!(last.cgroup, Some(host.path("cg/limited")));
    assert_eq!(places(&host.cgroups(&["/free"])), ["cgroup /free"]);
    assert_eq!(places(&SignalReader::of_processes(host.sources(), &[7])), [""; 0]);
}

#[test]
fn v1_has_no_warnings() {
    let host = v1();
    host.cgroup("memory/app", &[7]);
    assert_eq!(places(&host.cgroups(&["/app"])), [""; 0]);
}
