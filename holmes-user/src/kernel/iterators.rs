//! Programs that the kernel runs for each task when a file is read.
//!
//! Must not: know what they write.

use std::fs::File;

use aya::programs::{Iter, Program, ProgramError};
use aya::{Btf, Ebpf};

use super::attach::chain;
use super::loading;

/// What they are run for.
const EACH: &str = "task";

/// Loads a program.
///
/// # Errors
/// The kernel has no iterators: why, in one line.
pub(super) fn load(ebpf: &mut Ebpf, name: &str, types: &Btf) -> Result<(), String> {
    let program: &mut Iter = iterator(loading::find(ebpf, name)?)?;
    program.load(EACH, types).map_err(|error| chain(&error))
}

/// Opens the file whose readers have a loaded program run, once for each task.
///
/// # Errors
/// The kernel refuses: why, in one line.
pub(super) fn open(ebpf: &mut Ebpf, name: &str) -> Result<File, String> {
    let said = |error: ProgramError| chain(&error);
    let program = iterator(loading::find(ebpf, name)?)?;
    let link = program.attach().map_err(said)?;
    let link = program.take_link(link).map_err(said)?;
    link.into_file().map_err(|error| chain(&error))
}

fn iterator(program: &mut Program) -> Result<&mut Iter, String> {
    program.try_into().map_err(|error: ProgramError| chain(&error))
}
