//! Headers and build-id of an executable.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::binary::fuzzing::elf(data));
