//! Names of real code: our own functions, other processes, and files that lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};

use super::super::excerpt::tests::{one_symbol, small_elf};
use super::*;
use crate::collect::{CgroupId, Comm, Nanos, Stack};
use crate::process::Object;
use crate::process::{Cgroup, Image, Mapping};
use crate::window::{CutSample, Detail, Owner, ProfileKind, pair};

#[inline(never)]
fn outer_function(value: u64) -> u64 {
    std::hint::black_box(inner_function(std::hint::black_box(value)))
}

#[inline(always)]
fn inner_function(value: u64) -> u64 {
    let mut sum = value;
    for step in 0..std::hint::black_box(8) {
        sum = std::hint::black_box(sum.rotate_left(step) ^ 0x5bd1_e995);
    }
    sum
}

/// This process as it sees itself.
fn own_image() -> Image {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut objects: BTreeMap<String, Arc<Object>> = BTreeMap::new();
    let mut mappings = Vec::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let path = fields.get(5).copied().unwrap_or_default();
        if !fields[1].contains('x') || !(path.starts_with('/') || path == "[vdso]") {
            continue;
        }
        let (start, end) = fields[0].split_once('-').unwrap();
        let number = objects.len() as u32;
        let kind = if path == "[vdso]" { ObjectKind::Vdso } else { ObjectKind::File };
        let object = objects.entry(path.to_owned()).or_insert_with(|| {
            let (path, file) = (path.to_owned(), File::open(path).ok());
            Arc::new(Object { number, kind, path, build_id: String::new(), file })
        });
        let hexadecimal = |text| u64::from_str_radix(text, 16).unwrap();
        mappings.push(Mapping {
            start: hexadecimal(start),
            end: hexadecimal(end),
            offset: hexadecimal(fields[2]),
            object: object.clone(),
        });
    }
    let exe = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    Image { number: 1, tgid: std::process::id(), start_time: 1, exe, mappings }
}

fn image_of(object: Object) -> Image {
    let object = Arc::new(object);
    let mappings = vec![Mapping { start: 0x1000, end: 0x2000, offset: 0, object }];
    Image { number: 2, tgid: 1, start_time: 1, exe: String::new(), mappings }
}

fn cut(image: Option<Image>, user: &[u64], kernel: &[u64]) -> Cut {
    let cgroup = Cgroup { id: CgroupId(1), path: "/".to_owned(), container: None };
    let owner = Owner {
        tgid: 1,
        comm: Comm::from("test".to_owned()),
        cgroup: Arc::new(cgroup),
        image: image.map(Arc::new),
        recorder: false,
    };
    let stack = Arc::new(Stack { user: user.into(), kernel: kernel.into() });
    let samples = vec![CutSample {
        owner: Arc::new(owner),
        stack,
        detail: Detail::None,
        labels: Vec::new(),
        values: pair([1, 1]),
    }];
    Cut { kind: ProfileKind::Cpu, from: Nanos(0), to: Nanos(1), samples }
}

/// Enough for a machine that is busy with other things.
fn patient() -> Symbolizer {
    Symbolizer::with_budget(Duration::from_secs(300))
}

fn functions(table: &SymbolTable) -> Vec<Vec<&str>> {
    let user = table.user.values().chain(table.kernel.values());
    user.map(|named| named.lines.iter().map(|line| &*line.function).collect()).collect()
}

fn elf_file(name: &str) -> File {
    let strings = format!("\0{name}\0");
    let symbols = one_symbol();
    let elf = small_elf(&[(".symtab", 2, 0, &symbols), (".strtab", 3, 0, strings.as_bytes())]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&elf).unwrap();
    file
}

fn object(number: u32, kind: ObjectKind, file: Option<File>) -> Object {
    Object { number, kind, path: "/x".to_owned(), build_id: String::new(), file }
}

#[test]
fn functions_of_this_program_are_named_with_what_is_inlined() {
    assert_ne!(outer_function(1), 0);
    let start = outer_function as *const () as u64;
    // Every byte of the function's first part: the inlined loop is among them.
    let mut symbolizer = patient();
    let cuts: Vec<Cut> =
        (0..160).map(|step| cut(Some(own_image()), &[start + step], &[])).collect();
    let (table, stats) = symbolizer.name(&cuts.iter().collect::<Vec<_>>());
    let all = functions(&table);
    let own = |lines: &&Vec<&str>| lines.last().unwrap().ends_with("::outer_function");
    assert!(all.iter().any(|lines| own(&lines)), "{all:?}");
    let inlined = all.iter().filter(own).find(|lines| lines.len() > 1);
    let inlined = inlined.unwrap_or_else(|| panic!("nothing inlined in {all:?}, {stats:?}"));
    assert!(inlined.iter().any(|name| name.ends_with("inner_function")), "{inlined:?}");
    let file = table.user.values().flat_map(|named| &named.lines).find(|line| line.line > 0);
    assert!(file.unwrap().file.ends_with(".rs"));
    assert!(stats.named(NamedBy::Dwarf) > 0);
    assert_eq!(stats.places(), 160);
}

#[test]
fn the_vdso_is_named() {
    let image = own_image();
    let vdso = image.mappings.iter().find(|mapping| mapping.object.kind == ObjectKind::Vdso);
    let (start, end) = vdso.map(|mapping| (mapping.start, mapping.end)).unwrap();
    let addresses: Vec<u64> = (start..end).step_by(16).collect();
    let (table, stats) = patient().name(&[&cut(Some(image), &addresses, &[])]);
    assert!(functions(&table).iter().any(|lines| lines[0].contains("clock_gettime")), "{stats:?}");
    assert!(stats.named(NamedBy::Vdso) > 0);
}

#[test]
fn a_kernel_address_is_named() {
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let line = kallsyms.lines().find(|line| line.ends_with(" schedule")).unwrap();
    let start = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let (table, stats) = patient().name(&[&cut(None, &[], &[start + 1, start + 2])]);
    if start == 0 {
        assert_eq!(stats.unnamed(Unnamed::KernelHidden), 1);
    } else {
        assert_eq!(functions(&table), [["schedule"]]);
    }
}

#[test]
fn no_name_comes_from_the_file_that_had_the_descriptor_before() {
    let mut symbolizer = patient();
    for (number, name) in [(1, "first"), (2, "second"), (3, "third")] {
        // The file is closed at the end of the turn, so the next one gets its descriptor.
        let image = image_of(object(number, ObjectKind::File, Some(elf_file(name))));
        let (table, _) = symbolizer.name(&[&cut(Some(image), &[0x1010], &[])]);
        assert_eq!(functions(&table), [[name]]);
    }
    // The same file with other contents, too.
    let mut file = elf_file("before");
    for name in ["before", "behind"] {
        file.rewind().unwrap();
        std::io::copy(
            &mut {
                let mut new = elf_file(name);
                new.rewind().unwrap();
                new
            },
            &mut file,
        )
        .unwrap();
        let open = file.try_clone().unwrap();
        let image = image_of(object(4, ObjectKind::File, Some(open)));
        let (table, _) = symbolizer.name(&[&cut(Some(image), &[0x1010], &[])]);
        assert_eq!(functions(&table), [[name]]);
    }
}

#[test]
fn code_of_a_jit_compiler_is_named_for_each_process() {
    let map = |text: &str| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Some(file)
    };
    // Both have ended: what they had is still open. No process has number 1 and this start.
    let image = |number, text: &str| {
        let mut image = image_of(object(number, ObjectKind::Anonymous, map(text)));
        (image.start_time, image.mappings[0].offset) = (u64::MAX, 0x1000);
        image
    };
    let one = cut(Some(image(7, "1000 20 JS:*one\n")), &[0x1010, 0x1101], &[]);
    let other = cut(Some(image(8, "1000 200 JS:*other\n")), &[0x1010], &[]);
    let (table, stats) = patient().name(&[&one, &other]);
    assert_eq!(functions(&table), [["JS:*one"], ["JS:*other"]]);
    assert_eq!((stats.named(NamedBy::PerfMap), stats.unnamed(Unnamed::NoSymbol)), (2, 1));
}

#[test]
fn what_has_no_name_is_counted_by_cause() {
    let text = || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh\n").unwrap();
        Some(file)
    };
    let file = |file| Some(image_of(object(1, ObjectKind::File, file)));
    let empty = || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&small_elf(&[])).unwrap();
        Some(file)
    };
    let cases = [
        (None, 0x1010, Unnamed::Unmapped),
        (file(None), 0x5000, Unnamed::Unmapped),
        (file(None), 0x1010, Unnamed::NotOpen),
        (file(text()), 0x1010, Unnamed::NotElf),
        (file(empty()), 0x1010, Unnamed::NoSymbols),
        (file(Some(elf_file("f"))), 0x1900, Unnamed::NoSymbol),
        (Some(image_of(object(1, ObjectKind::Anonymous, None))), 0x1010, Unnamed::Anonymous),
    ];
    for (image, address, cause) in cases {
        let (table, stats) = patient().name(&[&cut(image, &[address], &[])]);
        assert_eq!(table, SymbolTable::default());
        assert_eq!((stats.unnamed(cause), stats.places()), (1, 1), "{cause:?}: {stats:?}");
    }
}

#[test]
fn naming_stops_when_its_time_is_used_up() {
    let image = image_of(object(1, ObjectKind::File, Some(elf_file("f"))));
    let (_, stats) =
        Symbolizer::with_budget(Duration::ZERO).name(&[&cut(Some(image), &[0x1010], &[])]);
    assert_eq!(stats.unnamed(Unnamed::OutOfTime), 1);
}

#[test]
fn a_replay_gives_the_recorded_names() {
    let image = || Some(image_of(object(1, ObjectKind::File, Some(elf_file("recorded")))));
    let addresses = [0x1010, 0x1900];
    let (live, _) = patient().name(&[&cut(image(), &addresses, &[])]);
    let text = serde_json::to_string(&live.to_names()).unwrap();
    let names: crate::capture::Names = serde_json::from_str(&text).unwrap();
    let mut recorded = Recorded::new(SymbolTable::from_names(names));
    let replayed = image_of(object(1, ObjectKind::File, None));
    let (table, stats) = recorded.name(&[&cut(Some(replayed), &addresses, &[])]);
    assert_eq!(table, live);
    assert_eq!((stats.named(NamedBy::Recorded), stats.unnamed(Unnamed::NotRecorded)), (1, 1));
}
