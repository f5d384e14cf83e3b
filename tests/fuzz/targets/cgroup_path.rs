//! A cgroup's path.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::process::fuzzing::cgroup_path(data));
