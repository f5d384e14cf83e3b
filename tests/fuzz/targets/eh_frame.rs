//! The unwind table of an executable.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::unwind::fuzzing::eh_frame(data));
