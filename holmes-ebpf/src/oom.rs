//! Who is killed because memory ran out. The victim lives for some milliseconds more: user space is
//! woken to look at it.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel, macros::raw_tracepoint, programs::RawTracePointContext,
};
use holmes_common::{
    counter::Stream,
    globals::{NO_OFFSET, Offsets},
    record::RecordKind,
};

use crate::{
    filter::{Subject, cgroup_of},
    globals::OFFSETS,
    maps::Slot,
    record::Report,
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
        let Offsets { task_pid, task_tgid, .. } = OFFSETS.load();
        let (tgid, tid) = (id_at(victim, task_tgid), id_at(victim, task_pid));
        Subject { tgid, tid, cgroup_id: cgroup_of(victim) }
    } else {
        Subject { tgid: victim as u32, tid: victim as u32, cgroup_id: 0 }
    };
    Report {
        stream: Stream::Tasks,
        slot: Slot::Victim,
        kind: RecordKind::OomVictim,
        flags: 0,
        value: 0,
        aux: 0,
    }
    .send_at_once(&subject);
    0
}

/// Reads an id of a task; 0 where the kernel's layout is not known.
#[inline(always)]
fn id_at(task: u64, offset: u32) -> u32 {
    if offset == NO_OFFSET {
        return 0;
    }
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_kernel((task + u64::from(offset)) as *const u32) }.unwrap_or(0)
}
