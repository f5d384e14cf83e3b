//! Mangled names.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::symbolize::fuzzing::mangled(data));
