//! What a JIT compiler says of its code.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holmes_user::symbolize::fuzzing::jit_symbols(data));
