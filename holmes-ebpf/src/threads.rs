//! Task creation, with the creator's stack.

use aya_ebpf::{EbpfContext, macros::raw_tracepoint, programs::RawTracePointContext};
use holmes_common::{
    counter::Stream,
    record::{RecordKind, flag},
};

use crate::{
    filter::subject,
    globals::offset,
    record::Report,
    spaces,
    stats::{add, cgroup_totals},
    task::id_at,
    unwind::{chains, registers},
};

/// `CLONE_THREAD`: the new task joins its creator's thread group.
const CLONE_THREAD: u64 = 0x0001_0000;

/// `task:task_newtask`, arguments (`struct task_struct *task`, `u64 clone_flags`), in the
/// creator's context.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_newtask(ctx: RawTracePointContext) -> u32 {
    let Some(subject) = subject() else {
        return 0;
    };
    let task: u64 = ctx.arg(0);
    let clone_flags: u64 = ctx.arg(1);
    let is_thread = clone_flags & CLONE_THREAD != 0;
    if let Some(totals) = cgroup_totals(subject.cgroup_id) {
        // SAFETY: the pointer comes from the map.
        unsafe {
            if is_thread {
                add(&raw mut (*totals).threads_created, 1);
            } else {
                add(&raw mut (*totals).processes_created, 1);
            }
        }
    }
    let (tgid, tid) = (id_at(task, offset!(task_tgid)), id_at(task, offset!(task_pid)));
    if !is_thread {
        spaces::begin(tgid, task);
    }
    let report = Report {
        stream: Stream::Tasks,
        kind: RecordKind::NewTask,
        flags: if is_thread { flag::NEW_THREAD } else { 0 },
        value: 0,
        aux: u64::from(tgid) << 32 | u64::from(tid),
    };
    let found = registers::entered();
    report.send_with_stacks(ctx.as_ptr(), &subject, &chains::TASKS, &found, false, |_| {});
    0
}
