//! Go's function table.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::binary::fuzzing::gopclntab(data));
