//! A recording of the input.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::capture::fuzzing::recording(data));
