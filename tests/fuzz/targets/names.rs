//! Symbol tables and debug information. Parsers of others may panic on them: that is caught, and
//! costs one file's names.

#![no_main]

libfuzzer_sys::fuzz_target!(
    // Instead of the hook that ends the program: what is not caught still does.
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| holmes_user::symbolize::fuzzing::names(data)
);
