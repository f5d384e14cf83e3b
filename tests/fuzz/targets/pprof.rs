//! A profile.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::profile::fuzzing::pprof(data));
