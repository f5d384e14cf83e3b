//! The entry point of `holmes-ebpf`.
fn main() {}
