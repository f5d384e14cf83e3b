//! What is asked of a program's debug information.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::binary::fuzzing::debug_info(data));
