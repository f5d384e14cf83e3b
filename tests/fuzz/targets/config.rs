//! The configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::cli::fuzzing::configuration(data));
