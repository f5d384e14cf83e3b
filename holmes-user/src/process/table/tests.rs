//! The table on a made-up `/proc` in a temporary folder.

use tempfile::TempDir;

use super::*;
use crate::collect::{CgroupId, Comm, Stack, Walk};

const MILLI: u64 = 1_000_000;
const CODE: u64 = 0x40_0000;
const PLUGIN: u64 = 0x70_0000;
const NOWHERE: u64 = 0x1234;

struct Host {
    folder: TempDir,
    table: ProcessTable,
    now: Nanos,
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let table = ProcessTable::new(folder.path());
        Self { folder, table, now: Nanos::from_secs(1000) }
    }

    /// Makes or changes a process: code without a file at each of these addresses.
    fn process(&self, pid: u32, started: u64, code: &[u64]) {
        let folder = self.folder.path().join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        let stat = format!("{pid} (a) b) S 1{} {started} 0\n", " 0".repeat(17));
        fs::write(folder.join("stat"), stat).unwrap();
        let lines = code.iter().map(|start| {
            let end = start + 0x1000;
            format!("{start:x}-{end:x} r-xp 00000000 00:00 0 \n")
        });
        fs::write(folder.join("maps"), lines.collect::<String>()).unwrap();
    }

    fn ends(&self, pid: u32) {
        fs::remove_dir_all(self.folder.path().join(pid.to_string())).unwrap();
    }

    fn pass(&mut self, millis: u64) {
        self.now = Nanos(self.now.0 + millis * MILLI);
    }

    fn does(&mut self, tgid: u32, tid: u32, what: What, user: &[u64]) -> Option<Arc<Image>> {
        self.observe(tgid, tid, what, user, Walk::default())
    }

    /// A sample of the process's first thread whose walk did not get far.
    fn stopped(&mut self, pid: u32, user: &[u64], walk: Walk) -> Option<Arc<Image>> {
        self.observe(pid, pid, What::CpuSample, user, walk)
    }

    fn observe(
        &mut self,
        tgid: u32,
        tid: u32,
        what: What,
        user: &[u64],
        walk: Walk,
    ) -> Option<Arc<Image>> {
        self.table.image_of(&Observation {
            walk,
            time: self.now,
            tgid,
            tid,
            cgroup: CgroupId(1),
            comm: Comm::from("a".to_owned()),
            cpu: 0,
            flags: 0,
            stack: Arc::new(Stack { user: user.into(), kernel: Box::default() }),
            what,
        })
    }

    /// A sample of the process's first thread.
    fn sample(&mut self, pid: u32, user: &[u64]) -> Option<Arc<Image>> {
        self.does(pid, pid, What::CpuSample, user)
    }

    /// The images of the process that a sample of no known effect shows.
    fn known(&mut self, pid: u32) -> Option<Arc<Image>> {
        self.sample(pid, &[])
    }

    fn reads(&self) -> u64 {
        self.table.stats().maps_read
    }
}

fn starts(image: Option<&Arc<Image>>) -> Vec<u64> {
    image
        .map(|image| image.mappings.iter().map(|mapping| mapping.start).collect())
        .unwrap_or_default()
}

#[test]
fn a_process_is_read_once_while_nothing_is_strange() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    assert!(host.sample(7, &[]).is_none(), "without a stack there is nothing to look up");
    let image = host.sample(7, &[CODE]).unwrap();
    assert_eq!((image.tgid, image.start_time), (7, 55));
    for _ in 0..100 {
        host.pass(100);
        assert!(Arc::ptr_eq(&host.sample(7, &[CODE + 5]).unwrap(), &image));
    }
    assert_eq!(host.reads(), 1);
}

#[test]
fn an_exec_ends_what_was_known() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    host.sample(7, &[CODE]);
    host.process(7, 55, &[PLUGIN]);
    assert!(host.does(7, 7, What::Exec, &[]).is_none());
    assert_eq!(starts(host.sample(7, &[PLUGIN]).as_ref()), [PLUGIN]);
}

#[test]
fn a_child_has_its_parents_mappings_until_it_is_seen_elsewhere() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    let parent = host.sample(7, &[CODE]).unwrap();
    host.does(7, 7, What::NewProcess { tgid: 8 }, &[CODE]);
    // The child has executed another program already, but this was sampled before.
    host.process(8, 60, &[PLUGIN]);
    assert!(Arc::ptr_eq(&host.sample(8, &[CODE]).unwrap(), &parent));
    assert_eq!(host.reads(), 1);
    let child = host.sample(8, &[PLUGIN]).unwrap();
    assert_eq!((child.tgid, starts(Some(&child))), (8, vec![PLUGIN]));
}

#[test]
fn a_child_that_ended_unseen_is_named_by_its_parent() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    let parent = host.sample(7, &[CODE]).unwrap();
    host.does(7, 7, What::NewProcess { tgid: 8 }, &[]);
    host.does(8, 8, What::Exit, &[]);
    assert!(Arc::ptr_eq(&host.sample(8, &[CODE, NOWHERE]).unwrap(), &parent));
}

#[test]
fn strange_leaves_are_reason_to_read_again_once_a_second() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    host.sample(7, &[CODE]).unwrap();
    // It is no longer young.
    host.pass(2000);
    let before = host.sample(7, &[NOWHERE]).unwrap();
    host.process(7, 55, &[CODE, PLUGIN]);
    host.pass(999);
    assert_eq!(host.sample(7, &[PLUGIN]).unwrap().number, before.number);
    host.pass(1);
    let after = host.sample(7, &[PLUGIN]).unwrap();
    assert_eq!(starts(Some(&after)), [CODE, PLUGIN]);
    // Nothing new the next time: nobody gets another image.
    for _ in 0..50 {
        host.pass(100);
        assert!(Arc::ptr_eq(&host.sample(7, &[NOWHERE]).unwrap(), &after));
    }
    assert_eq!(host.reads(), 3 + 5);
}

#[test]
fn what_a_young_process_maps_is_found_soon() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    host.sample(7, &[CODE]);
    host.process(7, 55, &[CODE, PLUGIN]);
    host.pass(20);
    assert_eq!(starts(host.sample(7, &[PLUGIN]).as_ref()), [CODE, PLUGIN]);
    // Also where the probes' walk stopped, which is no part of the stack.
    host.process(7, 55, &[CODE, PLUGIN, 0x9000]);
    host.pass(20);
    let walk = Walk { stopped_at: 0x9000, ..Walk::default() };
    assert_eq!(starts(host.stopped(7, &[CODE], walk).as_ref()), [CODE, PLUGIN, 0x9000]);
    assert_eq!(host.reads(), 3);
}

#[test]
fn a_library_seen_only_further_up_is_found_too() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    host.sample(7, &[CODE, PLUGIN]);
    host.process(7, 55, &[CODE, PLUGIN]);
    host.pass(1000);
    assert_eq!(starts(host.sample(7, &[CODE, PLUGIN]).as_ref()), [CODE, PLUGIN]);
}

#[test]
fn broken_walks_are_read_for_more_and_more_seldom() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    for _ in 0..64 {
        host.sample(7, &[CODE, NOWHERE]);
        host.pass(1000);
    }
    // At 0, 1, 3, 7, 15, 31 and 63 seconds.
    assert_eq!(host.reads(), 7);
}

#[test]
fn a_process_that_is_gone_keeps_what_was_known() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    let image = host.sample(7, &[CODE]).unwrap();
    host.ends(7);
    host.pass(2000);
    assert!(Arc::ptr_eq(&host.sample(7, &[NOWHERE]).unwrap(), &image));
    assert_eq!(host.table.stats().maps_failed, 1);
    assert!(host.sample(9, &[CODE]).is_none());
    assert_eq!(host.table.stats().maps_failed, 2);
}

#[test]
fn the_first_thread_may_end_before_the_others() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    let image = host.sample(7, &[CODE]).unwrap();
    host.does(7, 7, What::Exit, &[]);
    // A first thread that has ended has no mappings to show; the other one has a start of its own.
    host.process(7, 55, &[]);
    host.process(70, 99, &[CODE, PLUGIN]);
    host.pass(4000);
    let known = host.does(7, 70, What::CpuSample, &[CODE]).unwrap();
    assert!(Arc::ptr_eq(&known, &image));
    host.pass(2000);
    let read = host.does(7, 70, What::CpuSample, &[PLUGIN]).unwrap();
    assert_eq!((read.tgid, read.start_time), (7, 55));
    assert_eq!(starts(Some(&read)), [CODE, PLUGIN]);
    for _ in 0..70 {
        host.pass(1000);
        assert!(Arc::ptr_eq(&host.does(7, 70, What::CpuSample, &[CODE]).unwrap(), &read));
    }
}

#[test]
fn ended_processes_leave_the_table_soon() {
    let mut host = Host::new();
    for pid in 10..1010 {
        host.does(7, 7, What::NewProcess { tgid: pid }, &[]);
        host.does(pid, pid, What::Exit, &[]);
        host.pass(10);
    }
    host.pass(4000);
    host.known(7);
    assert!(host.table.stats().known <= 100, "{:?}", host.table.stats());
}

#[test]
fn a_pid_that_is_used_again_at_once_is_not_forgotten_with_its_last_owner() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    host.sample(7, &[CODE]);
    host.does(7, 7, What::Exit, &[]);
    host.process(7, 60, &[PLUGIN]);
    host.does(3, 3, What::NewProcess { tgid: 7 }, &[]);
    let image = host.sample(7, &[PLUGIN]).unwrap();
    assert_eq!(image.start_time, 60);
    host.pass(6000);
    assert!(Arc::ptr_eq(&host.known(7).unwrap(), &image));
}

#[test]
fn an_exec_by_another_thread_is_not_the_end() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    host.sample(7, &[CODE]);
    host.does(7, 7, What::Exit, &[]);
    host.does(7, 7, What::Exec, &[]);
    let image = host.sample(7, &[CODE]).unwrap();
    host.pass(6000);
    assert!(Arc::ptr_eq(&host.known(7).unwrap(), &image));
}

#[test]
fn what_ended_without_a_word_is_found_in_parts() {
    let mut host = Host::new();
    let many = SWEEP_AT_ONCE as u32 + 10;
    host.process(7, 55, &[CODE]);
    host.process(8, 55, &[CODE]);
    let stays = host.sample(7, &[CODE]).unwrap();
    host.sample(8, &[CODE]);
    // Another process has the number now.
    host.process(8, 60, &[CODE]);
    for pid in 100..100 + many {
        host.does(7, 7, What::NewProcess { tgid: pid }, &[]);
    }
    host.pass(30_000);
    host.known(7);
    let left = host.table.stats().known;
    assert!((12..=13).contains(&left), "{left}");
    host.known(7);
    assert_eq!(host.table.stats().known, left, "the next part comes later");
    host.pass(100);
    assert!(Arc::ptr_eq(&host.known(7).unwrap(), &stays));
    assert_eq!(host.table.stats().known, 1);
    assert_eq!(host.sample(8, &[CODE]).unwrap().start_time, 60);
}

#[test]
fn a_full_table_reads_nothing_that_it_cannot_keep() {
    let mut host = Host::new();
    host.process(7, 55, &[CODE]);
    let pids = 1_000_000..1_000_000 + MAX_PROCESSES as u32;
    for tgid in pids {
        host.does(3, 3, What::NewProcess { tgid }, &[]);
    }
    assert!(host.sample(7, &[CODE]).is_none());
    let stats = host.table.stats();
    assert_eq!((stats.known, stats.maps_read, stats.maps_failed), (MAX_PROCESSES as u64, 0, 1));
}

/// A name is any bytes, and neither its parentheses nor what is no text must hide the fields behind it.
#[test]
fn a_start_behind_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let fields = (3..=22).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    for name in [&b"plain"[..], b"a) R 1", b"\xff\xfe (x"] {
        let stat = [b"7 (", name, b") ", fields.as_bytes(), b"\n"].concat();
        std::fs::write(folder.path().join("stat"), stat).unwrap();
        assert_eq!(start_time(folder.path()).unwrap(), 22, "{name:?}");
    }
    std::fs::write(folder.path().join("stat"), "").unwrap();
    assert!(start_time(folder.path()).is_err());
    assert!(start_time(Path::new("/proc/self")).unwrap() > 0);
}
