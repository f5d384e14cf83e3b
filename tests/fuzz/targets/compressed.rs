//! Packed sections and symbols.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::symbolize::fuzzing::packed(data));
