//! Who is killed because memory ran out. The victim lives for some milliseconds more: user space is
//! woken to look at it.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use holmes_common::{counter::Stream, record::RecordKind};

use crate::{
    filter::{Subject, cgroup_of},
    globals::offset,
    record::Report,
    task::id_at,
};

/// Addresses from here on are the kernel's, on every 64-bit processor; no process id is so large.
const KERNEL_ADDRESSES: u64 = 1 << 63;

/// `oom:mark_victim`, in the context of the task that asked for memory, which may be any. Its first
/// argument is the victim's id, since 6.8 its `task_struct`. All victims are reported: whose they are
/// is for user space to find out, as not every kernel tells the victim's cgroup here.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(ctx: RawTracePointContext) -> u32 {
    let victim: u64 = ctx.arg(0);
    let subject = if victim >= KERNEL_ADDRESSES {
        let tgid = id_at(victim, offset!(task_tgid));
        let tid = id_at(victim, offset!(task_pid));
        Subject { tgid, tid, cgroup_id: cgroup_of(victim) }
    } else {
        Subject { tgid: victim as u32, tid: victim as u32, cgroup_id: 0 }
    };
    Report { stream: Stream::Tasks, kind: RecordKind::OomVictim, flags: 0, value: 0, aux: 0 }
        .send_at_once(&subject);
    0
}
