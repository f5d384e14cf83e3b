//! Tries each seed of `tests/fuzz` at its door: what once broke a parser lies there, and the doors
//! stay built without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{
    binary, capture, cli, collect, golang, kernel, process, profile, signals, symbolize, unwind,
};

/// A target's name, and its door.
type Door = (&'static str, fn(&[u8]));

/// All of them.
const DOORS: [Door; 23] = [
    ("btf", kernel::fuzzing::btf),
    ("cgroup_path", process::fuzzing::cgroup_path),
    ("compressed", symbolize::fuzzing::packed),
    ("config", cli::fuzzing::configuration),
    ("debug_info", binary::fuzzing::debug_info),
    ("demangle", symbolize::fuzzing::mangled),
    ("eh_frame", unwind::fuzzing::eh_frame),
    ("elf", binary::fuzzing::elf),
    ("go_heap", golang::fuzzing::go_heap),
    ("gopclntab", binary::fuzzing::gopclntab),
    ("goroutines", golang::fuzzing::goroutines),
    ("kallsyms", symbolize::fuzzing::kernel_symbols),
    ("kernel_log", signals::fuzzing::kernel_log),
    ("maps", process::fuzzing::maps),
    ("mountinfo", kernel::fuzzing::mount_table),
    ("names", symbolize::fuzzing::names),
    ("naming_reply", symbolize::fuzzing::reply),
    ("naming_request", symbolize::fuzzing::request),
    ("perf_map", symbolize::fuzzing::jit_symbols),
    ("pprof", profile::fuzzing::pprof),
    ("record", collect::fuzzing::record),
    ("recording", capture::fuzzing::recording),
    ("smaps", signals::fuzzing::smaps),
];

#[test]
fn every_seed_is_survived() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds");
    let named = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let folders: BTreeSet<_> = fs::read_dir(&folder).unwrap().map(named).collect();
    assert_eq!(folders, DOORS.iter().map(|(name, _)| (*name).into()).collect());
    for (name, door) in DOORS {
        for seed in fs::read_dir(folder.join(name)).unwrap() {
            let seed = seed.unwrap().path();
            println!("{}", seed.display());
            door(&fs::read(&seed).unwrap());
        }
    }
}
