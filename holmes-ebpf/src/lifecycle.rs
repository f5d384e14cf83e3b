//! Exec and exit: when what is known of a process or thread stops being true.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use holmes_common::{
    counter::Stream,
    globals::NO_OFFSET,
    record::{RecordKind, flag},
};

use crate::{
    allocations,
    filter::{Subject, subject},
    globals::offset,
    maps::PROCESSES,
    record::Report,
    spaces,
    stats::{add, cgroup_totals},
    task::{self, follow, follow_half},
    waits,
};

/// `sched:sched_process_exec`, in the process's own context, after the program was replaced.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> u32 {
    let Some(subject) = subject() else {
        return 0;
    };
    if let Some(totals) = cgroup_totals(subject.cgroup_id) {
        // SAFETY: the pointer comes from the map.
        unsafe { add(&raw mut (*totals).execs, 1) };
    }
    // What user space knows of it was the program before: until it has looked again, walks are the
    // kernel's. Not known is not an error.
    let _ = PROCESSES.remove(subject.tgid);
    spaces::renew(subject.tgid);
    debug!(&ctx, "exec: pid {} in cgroup {}", subject.tgid, subject.cgroup_id);
    send(&subject, RecordKind::Exec, 0);
    0
}

/// `sched:sched_process_exit`, in the ending thread's context.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> u32 {
    // Also of a thread that is the target's no more: another one's task may come to be where its was.
    let mut flags = waits::forget();
    let Some(subject) = subject() else {
        return 0;
    };
    if let Some(totals) = cgroup_totals(subject.cgroup_id) {
        // SAFETY: the pointer comes from the map.
        unsafe { add(&raw mut (*totals).exits, 1) };
    }
    allocations::forget_current();
    debug!(&ctx, "exit: thread {} of pid {}", subject.tid, subject.tgid);
    if is_last_thread() {
        spaces::forget(subject.tgid);
        flags |= flag::LAST_THREAD;
    }
    send(&subject, RecordKind::Exit, flags);
    0
}

#[inline(always)]
fn send(subject: &Subject, kind: RecordKind, flags: u32) {
    Report { stream: Stream::Tasks, kind, flags, value: 0, aux: 0 }.send(subject);
}

/// Whether no other thread of the ending one's process is alive. The kernel has counted this one out
/// before the tracepoint. Where the layout is not known, nothing is the last.
#[inline(always)]
fn is_last_thread() -> bool {
    let signal = follow(task::current(), offset!(task_signal));
    if signal == 0 || offset!(signal_live) == NO_OFFSET {
        return false;
    }
    // An `atomic_t`.
    follow_half(signal, offset!(signal_live)) == 0
}
