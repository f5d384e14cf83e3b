//! Off-CPU time: where threads of the target leave the CPU, and when they are back on it.
//!
//! Every switch of the host comes through here, so most of it is deciding what to let go of (`wait_shares`
//! does). Of a wait that is recorded, with its stacks, so is the thread's return: its time is exact. What is
//! still going on when somebody asks is known, too, as far as it was recorded when it began.
//!
//! Runs under the lock of the CPU's run queue: it must be short, and wake nobody by itself.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use holmes_common::{
    counter::{Counter, Stream},
    record::{RecordKind, UNKNOWN_CALL, flag, wait_value},
};

use crate::{
    filter::{Subject, subject},
    globals::offset,
    maps::WAITERS,
    record::Report,
    stats::count,
    system_call,
    task::{current, current_mm, follow_half},
    unwind::{chains, registers},
    wait_shares::{self, Earnings},
};

/// `BPF_NOEXIST`, for the map's updates: a thread that is looked at may be leaving the CPU just now.
const NOEXIST: u64 = 1;

/// `PF_EXITING` of `task_struct.flags`.
pub const EXITING: u32 = 4;

/// What is known of a thread that has left the CPU before.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Waiter {
    cgroup_id: u64,
    /// What it may still have recorded one by one.
    earnings: Earnings,
    tgid: u32,
    tid: u32,
    /// Waits recorded so far; the lowest byte counts.
    number: u32,
    /// Whether the beginning of the wait under way was recorded.
    is_recorded: u16,
    /// Whether waits were left out since the last recorded one.
    has_left_out: u16,
}

impl Waiter {
    /// The wait under way is recorded: the thread's next number is its.
    #[inline(always)]
    fn record(&mut self, subject: &Subject) {
        self.cgroup_id = subject.cgroup_id;
        self.tgid = subject.tgid;
        self.tid = subject.tid;
        self.is_recorded = 1;
        self.has_left_out = 0;
        self.number = self.number.wrapping_add(1);
    }
}

/// `sched:sched_switch`, arguments (`bool preempt`, `struct task_struct *prev`, `*next`): on the stack of
/// the thread that leaves the CPU, which is still the current one.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn sched_switch(ctx: RawTracePointContext) -> u32 {
    end(ctx.arg(2));
    begin(&ctx);
    0
}

/// The thread whose task this is gets the CPU.
#[inline(always)]
fn end(task: u64) {
    let Some(waiter) = WAITERS.get_ptr_mut(task) else {
        return;
    };
    // SAFETY: the pointer comes from the map. A thread is on one CPU at a time, and only its own switches write
    // its entry, and who looks at it while it sleeps, word by word.
    let waiter = unsafe { &mut *waiter };
    if waiter.is_recorded == 0 {
        return;
    }
    waiter.is_recorded = 0;
    let Waiter { tgid, tid, cgroup_id, number, .. } = *waiter;
    let report = Report {
        stream: Stream::Waits,
        kind: RecordKind::WaitEnd,
        flags: 0,
        value: i64::from(number as u8),
        aux: 0,
    };
    if !report.send_header(&Subject { tgid, tid, cgroup_id }) {
        count(Counter::WaitEndsLost);
    }
}

/// The current thread leaves the CPU.
#[inline(always)]
fn begin(ctx: &RawTracePointContext) {
    // A thread that has waited before was the target's then: that it is still is asked when it matters.
    let Some(waiter) = known(ctx.arg(1)).or_else(|| newly_known(ctx.arg(1))) else {
        return;
    };
    let stands_for = wait_shares::stands_for(&mut waiter.earnings);
    if stands_for == 0 {
        waiter.has_left_out = 1;
        return;
    }
    let Some(subject) = subject_that_waits() else {
        waiter.has_left_out = 1;
        return;
    };
    let flags = if waiter.has_left_out != 0 { flag::WAITS_LEFT_OUT } else { 0 };
    waiter.record(&subject);
    let number = waiter.number as u8;
    let preempted: u64 = ctx.arg(0);
    // A thread may be preempted while it is about to wait: then it does not, yet.
    let state = if preempted & 1 != 0 { 0 } else { follow_half(current(), offset!(task_state)) };
    let (mut call, mut lock) = (UNKNOWN_CALL, 0);
    if let Some(regs) = registers::saved_in_call().filter(|_| state != 0) {
        call = system_call::number(regs) as u32;
        if call == system_call::FUTEX as u32
            && let Some([address, ..]) = system_call::arguments(regs)
        {
            lock = address;
        }
    }
    let report = Report {
        stream: Stream::Waits,
        kind: RecordKind::Wait,
        flags,
        value: wait_value(stands_for, number, state, call),
        aux: lock,
    };
    let found = registers::entered();
    // Where it was preempted says nothing of what it waits for.
    let with_kernel = state != 0;
    report.send_with_stacks(ctx.as_ptr(), &subject, &chains::WAITS, &found, with_kernel, |_| {});
}

/// The current thread, if it is the target's, and waits. What a kernel thread waits for is work; and a thread
/// that is ending has no memory any more.
#[inline(always)]
fn subject_that_waits() -> Option<Subject> {
    // What costs least comes first: most of what is asked about here is the CPU that has nothing to do.
    let may_wait = bpf_get_current_pid_tgid() as u32 != 0
        && current_mm() != Some(0)
        && follow_half(current(), offset!(task_flags)) & EXITING == 0;
    if may_wait { subject() } else { None }
}

/// What is known of the thread whose task this is.
#[inline(always)]
fn known(task: u64) -> Option<&'static mut Waiter> {
    // SAFETY: as in `end`; and of a thread that sleeps, whoever looks at it.
    WAITERS.get_ptr_mut(task).map(|waiter| unsafe { &mut *waiter })
}

/// The current thread leaves the CPU for the first time; `None` if that does not matter, or there is no room.
#[inline(always)]
fn newly_known(task: u64) -> Option<&'static mut Waiter> {
    insert(task, &subject_that_waits()?)
}

/// From now on something is known of a thread; `None` if there is no room.
#[inline(always)]
fn insert(task: u64, subject: &Subject) -> Option<&'static mut Waiter> {
    let Subject { tgid, tid, cgroup_id } = *subject;
    let new = Waiter {
        cgroup_id,
        earnings: Earnings::NONE,
        tgid,
        tid,
        number: 0,
        is_recorded: 0,
        has_left_out: 0,
    };
    // A failure shows in the lookup that follows, unless another CPU was faster.
    let _ = WAITERS.insert(task, new, NOEXIST);
    let waiter = known(task);
    if waiter.is_none() {
        count(Counter::WaitersFull);
    }
    waiter
}

/// A wait of another thread, as who looks at it finds it.
pub struct Looked {
    pub number: u8,
    /// Its beginning was not recorded.
    is_adopted: bool,
}

/// Another thread's wait is recorded by who looks at it, if that was not done when it began: its end is told,
/// too. `None` if there is no room for the thread.
#[inline(always)]
pub fn look(task: u64, subject: &Subject) -> Option<Looked> {
    let waiter = match known(task) {
        Some(waiter) => waiter,
        None => insert(task, subject)?,
    };
    let is_adopted = waiter.is_recorded == 0;
    if is_adopted {
        waiter.record(subject);
    }
    Some(Looked { number: waiter.number as u8, is_adopted })
}

/// The thread waits no longer after all, and who looked at it has nothing to say. Whose beginning was recorded
/// has an end all the same.
#[inline(always)]
pub fn look_away(task: u64, looked: &Looked) {
    // It may have gone on meanwhile, and wait again.
    if looked.is_adopted
        && let Some(waiter) = known(task)
        && waiter.number as u8 == looked.number
    {
        waiter.is_recorded = 0;
        waiter.has_left_out = 1;
    }
}

/// The current thread ends: whoever has its task next begins anew. Returns what is known of its waits:
/// bits of [`flag`].
#[inline(always)]
pub fn forget() -> u32 {
    // SAFETY: no argument, always allowed in a tracing program.
    let task = unsafe { bpf_get_current_task() };
    let Some(Waiter { number, has_left_out, .. }) = known(task).copied() else {
        return flag::WAITS_LEFT_OUT;
    };
    // It was there just now.
    let _ = WAITERS.remove(task);
    let left_out = if has_left_out != 0 { flag::WAITS_LEFT_OUT } else { 0 };
    left_out | number << flag::LAST_WAIT_SHIFT
}
