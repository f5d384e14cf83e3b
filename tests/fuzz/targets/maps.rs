//! The executable mappings of a process.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::process::fuzzing::maps(data));
