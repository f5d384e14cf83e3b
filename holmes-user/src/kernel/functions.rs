//! Programs at the ends of the kernel's own functions: what happens there costs nobody else anything, as a
//! tracepoint of all system calls does.
//!
//! Some kernels lack such a function, some refuse such programs, and some never run them: then the probe has
//! another place, see `attach`.

use std::fs;

use aya::maps::{MapData, ProgramArray};
use aya::programs::{FExit, Program, ProgramError};
use aya::{Btf, Ebpf};

use super::attach::{chain, detach};
use super::chains::{self, Chain};
use super::loading;

/// What one probe attaches to functions.
pub(super) struct FunctionEnds {
    /// The programs, and the functions at whose ends they run.
    programs: &'static [(&'static str, &'static str)],
    /// What continues their records. Such programs belong to a function, too: one that has, to the kernel's
    /// types, the same parameters as those whose programs go on here, down to their names.
    chains: &'static [(Chain, &'static str)],
}

/// The names of system calls' functions, up to the call's own.
macro_rules! system_call {
    ($name:literal) => {
        if cfg!(target_arch = "aarch64") {
            concat!("__arm64_sys_", $name)
        } else {
            concat!("__x64_sys_", $name)
        }
    };
}

/// Of the probe `memory`.
pub(super) const CALLS: FunctionEnds = FunctionEnds {
    programs: &[
        ("mmap_end", system_call!("mmap")),
        ("munmap_end", system_call!("munmap")),
        ("brk_end", system_call!("brk")),
        ("mremap_end", system_call!("mremap")),
        ("madvise_end", system_call!("madvise")),
    ],
    chains: &[
        (("CALL_END_CHAIN", "call_end_step", "call_end_finish"), system_call!("mmap")),
        (("MREMAP_END_CHAIN", "mremap_end_step", "mremap_end_finish"), system_call!("mremap")),
    ],
};

/// The program of these that is verified the fastest.
const SMALLEST: &str = "call_end_finish";

/// Where the kernel says whether its functions are traced (Documentation/trace/ftrace.rst).
const TRACED: &str = "/proc/sys/kernel/ftrace_enabled";

impl FunctionEnds {
    /// The programs that are attached, by name.
    pub(super) fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.programs.iter().map(|(program, _)| *program)
    }

    /// All of them: those that are attached, and those of the chains.
    pub(super) fn all_programs(&self) -> impl Iterator<Item = &'static str> {
        self.belonging().map(|(program, _)| program)
    }

    /// All of them, each with the function that it belongs to.
    fn belonging(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let of_chains = self
            .chains
            .iter()
            .flat_map(|((_, step, finish), function)| [(*step, *function), (*finish, *function)]);
        self.programs.iter().copied().chain(of_chains)
    }

    /// The function that a program of these belongs to.
    fn function_of(&self, program: &str) -> Option<&'static str> {
        self.belonging().find(|(name, _)| *name == program).map(|(_, function)| function)
    }

    /// Attaches all of them, or none. Returns the chains' arrays, which must be kept.
    ///
    /// # Errors
    /// One of them cannot be attached: why, in one line.
    pub(super) fn attach(
        &self,
        ebpf: &mut Ebpf,
        types: &Btf,
    ) -> Result<Vec<ProgramArray<MapData>>, String> {
        let attached = self.try_attach(ebpf, types);
        if attached.is_err() {
            detach(ebpf, |name| self.all_programs().any(|it| it == name));
        }
        attached
    }

    fn try_attach(
        &self,
        ebpf: &mut Ebpf,
        types: &Btf,
    ) -> Result<Vec<ProgramArray<MapData>>, String> {
        try_one(ebpf, types)?;
        for name in self.all_programs() {
            load(name, loading::find(ebpf, name)?, types).map_err(|error| chain(&error))?;
        }
        let joined = self.chains.iter().map(|(it, _)| chains::join(ebpf, *it));
        let arrays = joined.collect::<Result<_, _>>().map_err(|error| chain(&error))?;
        for name in self.programs() {
            let program: &mut FExit = loading::find(ebpf, name)?
                .try_into()
                .map_err(|error: ProgramError| chain(&error))?;
            program.attach().map_err(|error| chain(&error))?;
        }
        Ok(arrays)
    }
}

/// Loads a program for the function that it belongs to, if that has not been done.
///
/// # Errors
/// The kernel refuses it, or has no such function.
pub(super) fn load(name: &str, program: &mut Program, types: &Btf) -> Result<(), ProgramError> {
    if program.fd().is_ok() {
        return Ok(());
    }
    let function = CALLS.function_of(name).ok_or(ProgramError::UnexpectedProgramType)?;
    let program: &mut FExit = program.try_into()?;
    program.load(function, types)
}

/// Whether such programs can be used on this kernel: where it does not trace its functions, they can be
/// attached, and never run. One program is tried before the others, as some kernels refuse them all.
///
/// # Errors
/// They cannot: why, in one line.
pub(super) fn try_one(ebpf: &mut Ebpf, types: &Btf) -> Result<(), String> {
    if fs::read_to_string(TRACED).is_ok_and(|text| text.trim() == "0") {
        return Err(format!("{TRACED} is 0"));
    }
    load(SMALLEST, loading::find(ebpf, SMALLEST)?, types).map_err(|error| chain(&error))
}
