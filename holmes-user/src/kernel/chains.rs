//! Joins the programs that walk stacks: each chain's array gets its programs, before any probe that
//! begins a chain is attached.

use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};
use aya::programs::{ProgramError, ProgramFd};
use tracing::warn;

use super::OptionalProbe;
use super::error::KernelError;
use super::loading;

/// A chain's array, the program that walks, and the one that sends.
const SAMPLES: Chain = ("SAMPLE_CHAIN", "sample_step", "sample_finish");
const FAULTS: Chain = ("FAULT_CHAIN", "fault_step", "fault_finish");
const TASKS: Chain = ("TASK_CHAIN", "task_step", "task_finish");
const WAITS: Chain = ("WAIT_CHAIN", "wait_step", "wait_finish");

/// Of memory calls, where they are met at the ends of all system calls.
pub(super) const CALLS: Chain = ("CALL_CHAIN", "call_step", "call_finish");

/// Where allocations are recorded, theirs is the only one.
const ALLOCATIONS: Chain = ("ALLOCATION_CHAIN", "allocation_step", "allocation_finish");

pub(super) type Chain = (&'static str, &'static str, &'static str);

/// Indexes into the arrays, as in the probes' `unwind.rs`.
const STEP: u32 = 0;
const FINISH: u32 = 1;

/// The programs of the chains that [`join_all`] joins.
pub(super) fn programs(of_allocations: bool, without: &[OptionalProbe]) -> Vec<&'static str> {
    chains(of_allocations, without).flat_map(|(_, step, finish)| [step, finish]).collect()
}

/// The chains of allocations, or of all else that is not left out; but for memory calls, whose chain goes
/// by where they are met.
fn chains(of_allocations: bool, without: &[OptionalProbe]) -> impl Iterator<Item = Chain> {
    let of_all_else = [
        (None, SAMPLES),
        (Some(OptionalProbe::Faults), FAULTS),
        (Some(OptionalProbe::Threads), TASKS),
        (Some(OptionalProbe::Waits), WAITS),
    ];
    let is_left_out = |probe: Option<OptionalProbe>| probe.is_some_and(|it| without.contains(&it));
    let others =
        of_all_else.into_iter().filter(move |(probe, _)| !of_allocations && !is_left_out(*probe));
    others.map(|(_, chain)| chain).chain(of_allocations.then_some(ALLOCATIONS))
}

/// Loads and joins the programs of each chain, of allocations or of all else. Returns the arrays, which
/// must be kept: the kernel empties an array that nobody holds.
///
/// A chain whose last program the kernel refuses stays empty, which is said; the records of its
/// probes are lost, and counted (`no_chain`).
///
/// # Errors
/// The object has no such array.
pub(super) fn join_all(
    ebpf: &mut Ebpf,
    of_allocations: bool,
    without: &[OptionalProbe],
) -> Result<Vec<ProgramArray<MapData>>, KernelError> {
    chains(of_allocations, without).map(|chain| join(ebpf, chain)).collect()
}

/// The same for one chain.
///
/// # Errors
/// The object has no such array, or it was joined before.
pub(super) fn join(
    ebpf: &mut Ebpf,
    (name, step, finish): Chain,
) -> Result<ProgramArray<MapData>, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::NoMap(name))?;
    let wrap = |source| KernelError::Map { name, source };
    let mut array = ProgramArray::try_from(map).map_err(wrap)?;
    let Some(finish) = load(ebpf, finish) else { return Ok(array) };
    array.set(FINISH, &finish, 0).map_err(wrap)?;
    // Where the kernel refuses the unwinder, what comes behind it stands in: records without
    // stacks are better than none.
    array.set(STEP, load(ebpf, step).as_ref().unwrap_or(&finish), 0).map_err(wrap)?;
    Ok(array)
}

/// Loads a program that is attached to nothing.
fn load(ebpf: &mut Ebpf, name: &str) -> Option<ProgramFd> {
    let program = loading::find(ebpf, name).map_err(|why| warn!("{why}")).ok()?;
    loading::load(program)
        .and_then(|()| copy(program.fd()?))
        .map_err(|error| {
            warn!("the kernel refuses {name}: {}", super::attach::chain(&error));
        })
        .ok()
}

fn copy(fd: &ProgramFd) -> Result<ProgramFd, ProgramError> {
    fd.try_clone().map_err(ProgramError::IOError)
}
