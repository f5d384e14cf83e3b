//! What a naming process tells the recorder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::symbolize::fuzzing::reply(data));
