//! Has the kernel check the programs, several at the same time: that is most of the time until the first
//! sample.
//!
//! Must not: attach anything.

use std::sync::{Mutex, PoisonError};
use std::thread;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};

use super::functions;

/// Programs that are checked at the same time. There are five that take long.
const AT_ONCE: usize = 5;

/// A program of the object.
///
/// # Errors
/// It has none of this name: what to do about it.
pub(super) fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, String> {
    ebpf.program_mut(name).ok_or_else(|| {
        format!("the embedded object has no program {name}: rebuild it with `cargo xtask ebpf`")
    })
}

/// Loads a program, if that has not been done.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn load(program: &mut Program) -> Result<(), ProgramError> {
    if program.fd().is_ok() {
        return Ok(());
    }
    match program {
        Program::PerfEvent(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::UProbe(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Loads these programs, with the kernel's types those that belong to its functions. Returns those that the
/// kernel refuses: it is asked again when they are needed, and says why.
pub(super) fn load_ahead<'a>(
    ebpf: &mut Ebpf,
    wanted: &[&'a str],
    types: Option<&Btf>,
) -> Vec<&'a str> {
    let programs = ebpf.programs_mut().filter(|(name, _)| wanted.contains(name));
    let mut programs: Vec<(&str, &mut Program)> = programs.collect();
    // The last one is taken first: in the order that was asked for.
    programs.sort_by_key(|(name, _)| std::cmp::Reverse(wanted.iter().position(|it| it == name)));
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cpus.min(AT_ONCE);
    let waiting = Mutex::new(programs);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, program)) = next() {
                    // Said by whoever needs the program.
                    let _ = match types {
                        Some(types) if matches!(program, Program::FExit(_)) => {
                            functions::load(name, program, types)
                        }
                        _ => load(program),
                    };
                }
            });
        }
    });
    let is_refused = |name: &&str| ebpf.program(name).is_some_and(|it| it.fd().is_err());
    wanted.iter().copied().filter(is_refused).collect()
}
