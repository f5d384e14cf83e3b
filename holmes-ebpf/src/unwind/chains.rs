//! The programs of each chain. User space loads them, and puts them into the chain's array; none is
//! attached to anything.

use aya_ebpf::{
    EbpfContext,
    macros::{fexit, perf_event, raw_tracepoint, uretprobe},
    programs::{FExitContext, PerfEventContext, RawTracePointContext, RetProbeContext},
};
use holmes_common::counter::Stream;

use super::{Chain, walk};
use crate::{
    maps::{
        ALLOCATION_CHAIN, CALL_CHAIN, CALL_END_CHAIN, FAULT_CHAIN, MREMAP_END_CHAIN, SAMPLE_CHAIN,
        Slot, TASK_CHAIN, WAIT_CHAIN,
    },
    record,
};

/// Of CPU samples.
pub const SAMPLES: Chain =
    Chain { programs: &SAMPLE_CHAIN, slot: Slot::Sample, stream: Stream::Samples };

/// Of fault samples.
pub const FAULTS: Chain =
    Chain { programs: &FAULT_CHAIN, slot: Slot::Fault, stream: Stream::Faults };

/// Of new tasks.
pub const TASKS: Chain =
    Chain { programs: &TASK_CHAIN, slot: Slot::NewTask, stream: Stream::Tasks };

/// Of memory calls.
pub const CALLS: Chain = Chain { programs: &CALL_CHAIN, slot: Slot::Call, stream: Stream::Memory };

/// Of memory calls that were met at their functions' ends. Each thread has scratch memory of its own, as
/// the program may be preempted.
pub const CALL_ENDS: Chain =
    Chain { programs: &CALL_END_CHAIN, slot: Slot::Thread, stream: Stream::Memory };

/// The same for mremap.
pub const MREMAP_ENDS: Chain =
    Chain { programs: &MREMAP_END_CHAIN, slot: Slot::Thread, stream: Stream::Memory };

/// Of waits.
pub const WAITS: Chain = Chain { programs: &WAIT_CHAIN, slot: Slot::Wait, stream: Stream::Waits };

/// Of allocations. Scratch memory as for [`CALL_ENDS`].
pub const ALLOCATIONS: Chain =
    Chain { programs: &ALLOCATION_CHAIN, slot: Slot::Thread, stream: Stream::Allocations };

#[perf_event]
pub fn sample_step(ctx: PerfEventContext) -> u32 {
    walk::step(ctx.as_ptr(), &SAMPLES)
}

#[perf_event]
pub fn sample_finish(ctx: PerfEventContext) -> u32 {
    record::finish(ctx.as_ptr(), &SAMPLES)
}

#[perf_event]
pub fn fault_step(ctx: PerfEventContext) -> u32 {
    walk::step(ctx.as_ptr(), &FAULTS)
}

#[perf_event]
pub fn fault_finish(ctx: PerfEventContext) -> u32 {
    record::finish(ctx.as_ptr(), &FAULTS)
}

#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_step(ctx: RawTracePointContext) -> u32 {
    walk::step(ctx.as_ptr(), &TASKS)
}

#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_finish(ctx: RawTracePointContext) -> u32 {
    record::finish(ctx.as_ptr(), &TASKS)
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn call_step(ctx: RawTracePointContext) -> u32 {
    walk::step(ctx.as_ptr(), &CALLS)
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn call_finish(ctx: RawTracePointContext) -> u32 {
    record::finish(ctx.as_ptr(), &CALLS)
}

#[fexit]
pub fn call_end_step(ctx: FExitContext) -> u32 {
    walk::step(ctx.as_ptr(), &CALL_ENDS)
}

#[fexit]
pub fn call_end_finish(ctx: FExitContext) -> u32 {
    record::finish(ctx.as_ptr(), &CALL_ENDS)
}

#[fexit]
pub fn mremap_end_step(ctx: FExitContext) -> u32 {
    walk::step(ctx.as_ptr(), &MREMAP_ENDS)
}

#[fexit]
pub fn mremap_end_finish(ctx: FExitContext) -> u32 {
    record::finish(ctx.as_ptr(), &MREMAP_ENDS)
}

#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn wait_step(ctx: RawTracePointContext) -> u32 {
    walk::step(ctx.as_ptr(), &WAITS)
}

#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn wait_finish(ctx: RawTracePointContext) -> u32 {
    record::finish(ctx.as_ptr(), &WAITS)
}

#[uretprobe]
pub fn allocation_step(ctx: RetProbeContext) -> u32 {
    walk::step(ctx.as_ptr(), &ALLOCATIONS)
}

#[uretprobe]
pub fn allocation_finish(ctx: RetProbeContext) -> u32 {
    record::finish(ctx.as_ptr(), &ALLOCATIONS)
}
