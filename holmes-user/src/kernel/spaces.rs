//! Has the probes visit every process once: from then on they know what each had before its next call.
//!
//! Must not: be done before the probes are attached, or what happens in between is missed.

use std::io::Read;

use aya::programs::{Iter, Program, ProgramError};
use aya::{Btf, Ebpf};

use super::attach::{chain, detach};
use super::loading;

/// The program, and what it is called for.
pub(super) const PROGRAM: &str = "visit_space";
const EACH: &str = "task";

/// Visits them. Where that fails, a process is known from its next memory call on.
///
/// # Errors
/// The kernel has no iterators: why, in one line.
pub(super) fn visit(ebpf: &mut Ebpf, types: &Btf) -> Result<(), String> {
    let visited = visit_with(loading::find(ebpf, PROGRAM)?, types);
    detach(ebpf, |name| name == PROGRAM);
    visited
}

fn visit_with(program: &mut Program, types: &Btf) -> Result<(), String> {
    let said = |error: ProgramError| chain(&error);
    let program: &mut Iter = program.try_into().map_err(said)?;
    program.load(EACH, types).map_err(said)?;
    let link = program.attach().map_err(said)?;
    let link = program.take_link(link).map_err(said)?;
    let mut visits = link.into_file().map_err(|error| chain(&error))?;
    // It writes nothing: the first read goes through all of them, and ends.
    let mut nothing = [0; 64];
    while visits.read(&mut nothing).map_err(|error| error.to_string())? > 0 {}
    Ok(())
}
