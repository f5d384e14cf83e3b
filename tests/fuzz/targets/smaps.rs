//! What a process has in memory, by mapping.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::signals::fuzzing::smaps(data));
