//! The kernel's type information.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::kernel::fuzzing::btf(data));
