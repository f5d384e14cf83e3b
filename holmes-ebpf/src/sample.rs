//! CPU samples: a perf event of each CPU finds out what it is executing.

use aya_ebpf::{EbpfContext, macros::perf_event, programs::PerfEventContext};
use holmes_common::{counter::Stream, record::RecordKind};

use crate::{
    filter::subject,
    record::Report,
    stats::{add, cgroup_totals},
    unwind::{chains, registers},
};

/// Runs at the sampling frequency on each CPU, in interrupt context.
#[perf_event]
pub fn sample(ctx: PerfEventContext) -> u32 {
    // The idle task of each CPU is process 0: nothing is being executed.
    let Some(subject) = subject().filter(|subject| subject.tid != 0) else {
        return 0;
    };
    let totals = cgroup_totals(subject.cgroup_id);
    if let Some(totals) = totals {
        // SAFETY: the pointer comes from the map.
        unsafe { add(&raw mut (*totals).samples, 1) };
    }
    let report =
        Report { stream: Stream::Samples, kind: RecordKind::Sample, flags: 0, value: 0, aux: 0 };
    // Code that runs in user space has no kernel stack: the walk would only find that out again.
    let with_kernel = !registers::in_user_mode(&ctx);
    let found = registers::sampled(&ctx);
    report.send_with_stacks(
        ctx.as_ptr(),
        &subject,
        &chains::SAMPLES,
        &found,
        with_kernel,
        |walk| {
            registers::keep(&ctx, walk);
        },
    );
    // Here only if it was lost.
    if let Some(totals) = totals {
        // SAFETY: the pointer comes from the map.
        unsafe { add(&raw mut (*totals).samples_lost, 1) };
    }
    0
}
