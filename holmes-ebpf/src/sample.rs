//! CPU samples: a perf event of each CPU finds out what it is executing.

use aya_ebpf::{EbpfContext, macros::perf_event, programs::PerfEventContext};
use holmes_common::{counter::Stream, record::RecordKind};

use crate::{
    filter::subject,
    maps::Slot,
    record::{Report, Stacks},
    stats::{add, cgroup_totals},
};

/// Runs at the sampling frequency on each CPU, in interrupt context.
#[perf_event]
pub fn sample(ctx: PerfEventContext) -> u32 {
    // The idle task of each CPU is process 0: nothing is being executed.
    let Some(subject) = subject().filter(|subject| subject.tid != 0) else {
        return 0;
    };
    // Code that runs in user space has no kernel stack: the walk would only find that out again.
    let stacks = if in_user_mode(&ctx) { Stacks::User } else { Stacks::UserAndKernel };
    let sent = Report {
        stream: Stream::Samples,
        slot: Slot::Sample,
        kind: RecordKind::Sample,
        flags: 0,
        stacks,
        value: 0,
        aux: 0,
    }
    .send(ctx.as_ptr(), &subject);
    if let Some(totals) = cgroup_totals(subject.cgroup_id) {
        // SAFETY: the pointer comes from the map.
        unsafe {
            add(&raw mut (*totals).samples, 1);
            if !sent {
                add(&raw mut (*totals).samples_lost, 1);
            }
        }
    }
    0
}

/// Whether the CPU was interrupted in user space: the privilege level is in the code segment's
/// lowest bits.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn in_user_mode(ctx: &PerfEventContext) -> bool {
    // SAFETY: the context is valid while the program runs, and the verifier checks the offset.
    unsafe { (*ctx.ctx).regs.cs & 3 == 3 }
}

/// Other architectures: let the walk find out.
#[cfg(not(bpf_target_arch = "x86_64"))]
#[inline(always)]
fn in_user_mode(_ctx: &PerfEventContext) -> bool {
    false
}
