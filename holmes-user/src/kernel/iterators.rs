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

/// Has `work` done with the whole of the kernel's types, some megabytes, which are let go of behind it.
pub(super) fn with_types<T>(work: impl FnOnce(&Result<Btf, String>) -> T) -> T {
    let types = Btf::from_sys_fs().map_err(|error| chain(&error));
    let done = work(&types);
    drop(types);
    trim();
    done
}

/// Has the allocator give back what was let go of: it would keep the megabytes of the kernel's types for ever.
fn trim() {
    // SAFETY: no pointer, and any thread may call it at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Loads a program.
///
/// # Errors
/// The kernel has no iterators, or no type information: why, in one line.
pub(super) fn load(ebpf: &mut Ebpf, name: &str, types: &Result<Btf, String>) -> Result<(), String> {
    let types = types.as_ref().map_err(Clone::clone)?;
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
