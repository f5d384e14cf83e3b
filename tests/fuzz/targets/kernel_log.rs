//! What the kernel's log says of processes that it killed for memory.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::signals::fuzzing::kernel_log(data));
