//! The heap profile of a Go process whose memory may hold anything.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::golang::fuzzing::go_heap(data));
