//! The unwinder on maps in memory: a real process is found as its files say, and everything stays
//! within its room.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use holmes_common::unwind::CfaKind;

use super::super::compile::{Limits, Outcome, Table, compile};
use super::super::memory::{Found, MemoryMaps};
use super::*;
use crate::binary::Bytes;
use crate::collect::{CgroupId, Comm, Observation, Stack, What};
use crate::process::{Mapping, ObjectKind, ProcessTable};

mod room;
mod walk;

const KIB: u64 = 1 << 10;

/// A process of ours that waits.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let sleeper = Self(Command::new("sleep").arg("600").spawn().unwrap());
        // The loader has done when the kernel says that it sleeps in its only system call that does.
        let began = Instant::now();
        while !sleeper.maps().contains("/libc.so") || !sleeper.is_asleep() {
            assert!(began.elapsed() < Duration::from_secs(30), "it does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        sleeper
    }

    fn maps(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/maps", self.0.id())).unwrap()
    }

    fn is_asleep(&self) -> bool {
        let wchan = std::fs::read_to_string(format!("/proc/{}/syscall", self.0.id())).unwrap();
        // clock_nanosleep
        wchan.starts_with("230 ")
    }

    fn image(&self) -> Arc<Image> {
        let tgid = self.0.id();
        let observation = Observation {
            walk: Default::default(),
            time: Nanos::from_secs(100),
            tgid,
            tid: tgid,
            cgroup: CgroupId(1),
            comm: Comm::from("sleep".to_owned()),
            cpu: 0,
            flags: 0,
            stack: Arc::new(Stack { user: [1].into(), kernel: Box::default() }),
            what: What::CpuSample,
        };
        ProcessTable::new(Path::new("/proc")).image_of(&observation).unwrap()
    }

    /// File and lowest address of each file that has code, as the kernel tells it.
    fn files(&self) -> BTreeMap<String, u64> {
        let mut files = BTreeMap::new();
        for line in self.maps().lines() {
            if let Some(path) = line.find('/') {
                let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
                files.entry(line[path..].to_owned()).or_insert(start);
            }
        }
        files.retain(|path, _| path.contains("/libc.so") || path.ends_with("/sleep"));
        files
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn table_of(path: &str) -> Table {
    match compile(Bytes::File(&File::open(path).unwrap()), Limits::default()).outcome {
        Outcome::Table(table) => table,
        Outcome::None(reason) => panic!("{reason}"),
    }
}

fn unwinder(maps: &MemoryMaps) -> Unwinder {
    Unwinder::new(Box::new(maps.clone())).unwrap()
}

/// Works until this many jobs have come to an end.
fn work_until(unwinder: &mut Unwinder, now: Nanos, jobs: u64) {
    let began = Instant::now();
    loop {
        unwinder.work(now);
        let stats = unwinder.stats();
        if stats.compiled + stats.failed.iter().sum::<u64>() + stats.no_room >= jobs {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{stats:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An image made up of these mappings.
fn image(number: u32, tgid: u32, start_time: u64, mappings: Vec<Mapping>) -> Arc<Image> {
    Arc::new(Image { number, tgid, start_time, exe: String::new(), mappings })
}

fn anonymous(start: u64, end: u64) -> Mapping {
    let object = Object {
        number: 2,
        kind: ObjectKind::Anonymous,
        path: String::new(),
        build_id: String::new(),
        file: None,
    };
    Mapping { start, end, offset: 0, object: Arc::new(object) }
}

/// The whole of a file's code, mapped as it is linked.
fn file(number: u32, path: &str) -> Arc<Object> {
    Arc::new(Object {
        number,
        kind: ObjectKind::File,
        path: path.to_owned(),
        build_id: String::new(),
        file: Some(File::open(path).unwrap()),
    })
}

fn code_of(object: &Arc<Object>, base: u64) -> Mapping {
    let elf = crate::binary::Elf::read(Bytes::File(object.file.as_ref().unwrap())).unwrap();
    let code = elf.segments.iter().find(|segment| segment.executable).unwrap();
    let start = base + code.address / (4 * KIB) * (4 * KIB);
    let end = base + (code.address + code.size).next_multiple_of(4 * KIB);
    let offset = code.offset / (4 * KIB) * (4 * KIB);
    Mapping { start, end, offset, object: Arc::clone(object) }
}

#[test]
fn every_row_of_a_real_process_is_found_where_the_kernel_mapped_it() {
    let sleeper = Sleeper::start();
    let tgid = sleeper.0.id();
    let maps = MemoryMaps::new(1 << 20, 4096, 64);
    let mut unwinder = unwinder(&maps);
    let image = sleeper.image();
    let now = Nanos::from_secs(100);
    assert_eq!(maps.find(tgid, image.mappings[0].start), Found::UnknownProcess);
    unwinder.seen(image.tgid, &image, now);
    assert_eq!(maps.find(tgid, image.mappings[0].start), Found::NoTable);
    // sleep, libc, ld.so and the vDSO.
    work_until(&mut unwinder, now, 4);
    let files = sleeper.files();
    assert_eq!(files.len(), 2, "{files:?}");
    let mut rows = 0;
    for (path, base) in files {
        let table = table_of(&path);
        for (index, page) in table.pages.iter().enumerate() {
            let linked = (u64::from(table.base_page) + index as u64) << 16;
            let end = page.first_row + page.rows;
            for row in &table.rows[page.first_row as usize..end as usize] {
                let address = base + linked + u64::from(row.pc_low);
                if image.find(address).is_some() {
                    assert_eq!(maps.find(tgid, address), Found::Row(*row), "{path} {address:#x}");
                    rows += 1;
                }
            }
        }
    }
    assert!(rows > 10_000, "{rows}");
    let vdso = |mapping: &&Mapping| mapping.object.kind == ObjectKind::Vdso;
    let vdso = image.mappings.iter().find(vdso).unwrap();
    let is_row = |address| matches!(maps.find(tgid, address), Found::Row(row) if row.cfa_kind != 0);
    assert!((vdso.start..vdso.end).any(is_row));
    let stats = unwinder.stats();
    assert_eq!((stats.tables, stats.compiled, stats.failed), (4, 4, [0; 5]));
    assert_eq!(stats.mapping_entries as usize, maps.inner().trie.len());
}

#[test]
fn processes_share_the_table_of_an_executable() {
    let maps = MemoryMaps::new(1 << 20, 4096, 64);
    let mut unwinder = unwinder(&maps);
    let now = Nanos::from_secs(1);
    let loader = file(7, "/lib64/ld-linux-x86-64.so.2");
    let one = code_of(&loader, 0x7f00_0000_0000);
    let two = code_of(&loader, 0x5500_0000_0000);
    let at = (one.start + 0x100, two.start + 0x100);
    unwinder.seen(10, &image(1, 10, 1, vec![one]), now);
    work_until(&mut unwinder, now, 1);
    let found = maps.find(10, at.0);
    assert!(matches!(found, Found::Row(_)));
    // Known at once, with a bias of its own.
    unwinder.seen(11, &image(2, 11, 1, vec![two]), now);
    assert_eq!(maps.find(11, at.1), found);
    assert_eq!(unwinder.stats().compiled, 1);
}

#[test]
fn only_what_changed_is_written() {
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    let now = Nanos::from_secs(1);
    let code = |at: u64| anonymous(at, at + 0x1000);
    let one = image(1, 10, 1, vec![code(0x1000), code(0x4000)]);
    unwinder.seen(one.tgid, &one, now);
    assert_eq!(maps.inner().changes, 2);
    unwinder.seen(one.tgid, &one, now);
    assert_eq!(maps.inner().changes, 2, "nothing new");
    // One was unmapped, one is new.
    unwinder.seen(10, &image(2, 10, 1, vec![code(0x1000), code(0x8000)]), now);
    assert_eq!(maps.inner().changes, 4);
    let found = [0x1000, 0x4000, 0x8000].map(|address| maps.find(10, address));
    assert_eq!(found, [Found::NoFrames, Found::Unmapped, Found::NoFrames]);
    assert_eq!(unwinder.stats().mapping_entries, 2);
}

#[test]
fn what_a_process_had_mapped_goes_with_its_program_and_with_itself() {
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    let now = Nanos::from_secs(1);
    let one = image(1, 10, 1, vec![anonymous(0x1000, 0x2000)]);
    unwinder.seen(one.tgid, &one, now);
    unwinder.execed(10, now);
    assert_eq!(maps.find(10, 0x1000), Found::UnknownProcess);
    assert!(maps.inner().trie.is_empty());
    unwinder.seen(10, &image(2, 10, 1, vec![anonymous(0x3000, 0x4000)]), now);
    unwinder.exited(10, now);
    unwinder.work(Nanos::from_secs(5));
    assert_eq!(maps.find(10, 0x3000), Found::NoFrames, "other threads may live on");
    unwinder.work(Nanos::from_secs(6));
    assert!(maps.inner().trie.is_empty() && maps.inner().known.is_empty());
    assert_eq!((unwinder.stats().mapping_entries, unwinder.stats().processes), (0, 0));
}

#[test]
fn a_number_s_next_owner_is_another_process() {
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    unwinder.seen(10, &image(1, 10, 1, vec![anonymous(0x1000, 0x2000)]), Nanos::from_secs(1));
    unwinder.exited(10, Nanos::from_secs(1));
    unwinder.seen(10, &image(2, 10, 2, vec![anonymous(0x3000, 0x4000)]), Nanos::from_secs(2));
    assert_eq!(maps.find(10, 0x1000), Found::Unmapped);
    unwinder.work(Nanos::from_secs(10));
    assert_eq!(maps.find(10, 0x3000), Found::NoFrames, "the old one's end is not the new one's");
}

#[test]
fn a_file_that_is_no_executable_is_walked_by_frame_pointers() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("data");
    std::fs::write(&path, vec![0x90; 0x3000]).unwrap();
    let maps = MemoryMaps::new(1000, 10, 64);
    let mut unwinder = unwinder(&maps);
    let object = file(7, path.to_str().unwrap());
    let mapping = Mapping { start: 0x1000, end: 0x3000, offset: 0, object };
    unwinder.seen(10, &image(1, 10, 1, vec![mapping]), Nanos::from_secs(1));
    work_until(&mut unwinder, Nanos::from_secs(1), 1);
    assert_eq!(maps.find(10, 0x1000), Found::NoFrames);
    assert_eq!(unwinder.stats().failed, [1, 0, 0, 0, 0], "unreadable");
}

fn mapped(name: &str) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(name)).unwrap();
    line[line.find('/').unwrap()..].to_owned()
}
