//! The mounts of cgroup file systems.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::kernel::fuzzing::mount_table(data));
