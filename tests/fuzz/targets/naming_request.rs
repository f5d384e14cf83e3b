//! What the recorder asks a naming process.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::symbolize::fuzzing::request(data));
