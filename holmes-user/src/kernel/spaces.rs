//! Has the probes visit every process once: from then on they know what each had before its next call.
//!
//! Must not: be done before the probes are attached, or what happens in between is missed.

use std::io::Read;

use aya::{Btf, Ebpf};

use super::attach::detach;
use super::iterators;

/// The program.
pub(super) const PROGRAM: &str = "visit_space";

/// Visits them. Where that fails, a process is known from its next memory call on.
///
/// # Errors
/// The kernel has no iterators: why, in one line.
pub(super) fn visit(ebpf: &mut Ebpf, types: &Btf) -> Result<(), String> {
    let visited = visit_with(ebpf, types);
    detach(ebpf, |name| name == PROGRAM);
    visited
}

fn visit_with(ebpf: &mut Ebpf, types: &Btf) -> Result<(), String> {
    iterators::load(ebpf, PROGRAM, types)?;
    let mut visits = iterators::open(ebpf, PROGRAM)?;
    // It writes nothing: the first read goes through all of them, and ends.
    let mut nothing = [0; 64];
    while visits.read(&mut nothing).map_err(|error| error.to_string())? > 0 {}
    Ok(())
}
