//! A record of the ring buffer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::collect::fuzzing::record(data));
