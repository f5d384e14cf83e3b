//! Off-CPU time: where threads of the target leave the CPU, and when they are back on it.
//!
//! Every switch of the host comes through here, so most of it is deciding what to let go of. As long as
//! there are not too many on a CPU each is recorded, with its stacks, and so is the thread's return: what
//! is waited is exact. Where there are, that holds for threads that leave the CPU now and then, because
//! what waits for long does not wait often; of the others one wait of some is drawn, before it is known how
//! long it will be, and stands for them. What is still going on when somebody asks is known, too, as far as
//! it was recorded when it began.
//!
//! Runs under the lock of the CPU's run queue: it must be short, and wake nobody by itself.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use holmes_common::{
    counter::{Counter, Stream},
    limits::{WAIT_BURST, WAIT_EARNED_NS, WAIT_SHARE},
    record::{RecordKind, UNKNOWN_CALL, flag, wait_value},
};

use crate::{
    filter::{Subject, subject},
    globals::{WAIT_BURST_OF_CPU, WAIT_EARNED_NS_OF_CPU, offset},
    maps::{WAIT_ALLOWANCES, WAITERS},
    record::Report,
    stats::count,
    system_call,
    task::{current, current_mm, follow_half, id_at},
    unwind::{chains, registers},
};

/// `BPF_ANY`, for the map's updates.
const ANY: u64 = 0;

/// `PF_EXITING` of `task_struct.flags`.
pub const EXITING: u32 = 4;

/// What is known of a thread that has left the CPU before.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Waiter {
    cgroup_id: u64,
    /// When waits were earned last, `CLOCK_MONOTONIC` in nanoseconds.
    earned_at: u64,
    tgid: u32,
    /// Waits that may still be recorded one by one.
    left: u32,
    /// Whether the beginning of the wait under way was recorded.
    is_recorded: u16,
    /// Whether waits were left out since the last recorded one.
    has_left_out: u16,
    /// Waits recorded so far; the lowest byte counts.
    number: u32,
}

impl Waiter {
    /// The wait under way is recorded: the thread's next number is its.
    #[inline(always)]
    fn record(&mut self, subject: &Subject) {
        self.cgroup_id = subject.cgroup_id;
        self.tgid = subject.tgid;
        self.is_recorded = 1;
        self.has_left_out = 0;
        self.number = self.number.wrapping_add(1);
    }
}

/// What may still be recorded one by one on a CPU, whoever waits.
#[repr(C)]
pub struct WaitAllowance {
    left: u64,
    earned_at: u64,
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
    let tid = id_at(task, offset!(task_pid));
    if tid == 0 {
        return;
    }
    let Some(waiter) = WAITERS.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: the pointer comes from the map. A thread is on one CPU at a time, and only its own switches
    // write its entry.
    let waiter = unsafe { &mut *waiter };
    if waiter.is_recorded == 0 {
        return;
    }
    waiter.is_recorded = 0;
    let subject = Subject { tgid: waiter.tgid, tid, cgroup_id: waiter.cgroup_id };
    let report = Report {
        stream: Stream::Waits,
        kind: RecordKind::WaitEnd,
        flags: 0,
        value: i64::from(waiter.number as u8),
        aux: 0,
    };
    if !report.send_header(&subject) {
        count(Counter::WaitEndsLost);
    }
}

/// The current thread leaves the CPU.
#[inline(always)]
fn begin(ctx: &RawTracePointContext) {
    let Some(subject) = subject().filter(|subject| subject.tid != 0) else {
        return;
    };
    // What a kernel thread waits for is work; and a thread that is ending has no memory any more.
    let is_ending = follow_half(current(), offset!(task_flags)) & EXITING != 0;
    if is_ending || current_mm() == Some(0) {
        leave_out(subject.tid);
        return;
    }
    let Some(Drawn { stands_for, number, flags }) = drawn(&subject) else {
        return;
    };
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

/// A wait that is recorded.
struct Drawn {
    /// How many it stands for.
    stands_for: u64,
    /// Its number.
    number: u8,
    /// What else is known of it: bits of [`flag`].
    flags: u32,
}

/// Whether a wait is recorded; `None` if it is left out.
#[inline(always)]
fn drawn(subject: &Subject) -> Option<Drawn> {
    let waiter = waiter(subject)?;
    let Some(stands_for) = draw(waiter) else {
        waiter.has_left_out = 1;
        return None;
    };
    let flags = if waiter.has_left_out != 0 { flag::WAITS_LEFT_OUT } else { 0 };
    waiter.record(subject);
    Some(Drawn { stands_for, number: waiter.number as u8, flags })
}

/// Another thread's wait is recorded by who looks at it, if that was not done when it began: its end is told,
/// too. Its number; `None` if there is no room for the thread.
#[inline(always)]
pub fn adopt(subject: &Subject) -> Option<u8> {
    let waiter = waiter(subject)?;
    if waiter.is_recorded == 0 {
        waiter.record(subject);
    }
    Some(waiter.number as u8)
}

/// The thread waits no longer after all, and who looked at it has nothing to say.
#[inline(always)]
pub fn give_up(tid: u32) {
    if let Some(waiter) = WAITERS.get_ptr_mut(tid) {
        // SAFETY: the pointer comes from the map; the words are written whole.
        unsafe {
            (*waiter).is_recorded = 0;
            (*waiter).has_left_out = 1;
        }
    }
}

/// What is known of a thread, from now on if it was nothing; `None` if there is no room.
#[inline(always)]
fn waiter(subject: &Subject) -> Option<&'static mut Waiter> {
    let waiter = match WAITERS.get_ptr_mut(subject.tid) {
        Some(waiter) => waiter,
        None => {
            let new = Waiter {
                cgroup_id: subject.cgroup_id,
                earned_at: 0,
                tgid: subject.tgid,
                left: 0,
                is_recorded: 0,
                has_left_out: 0,
                number: 0,
            };
            // A failure shows in the lookup that follows.
            let _ = WAITERS.insert(subject.tid, new, ANY);
            let waiter = WAITERS.get_ptr_mut(subject.tid);
            if waiter.is_none() {
                count(Counter::WaitersFull);
            }
            waiter?
        }
    };
    // SAFETY: as in `end`; and of a thread that sleeps, whoever looks at it.
    Some(unsafe { &mut *waiter })
}

#[inline(always)]
fn draw(waiter: &mut Waiter) -> Option<u64> {
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    let since = now.wrapping_sub(waiter.earned_at);
    if since >= WAIT_EARNED_NS {
        let left = u64::from(waiter.left) + since / WAIT_EARNED_NS;
        waiter.left = if left > WAIT_BURST { WAIT_BURST } else { left } as u32;
        // What is not enough for another one counts for the next.
        waiter.earned_at = now.wrapping_sub(since % WAIT_EARNED_NS);
    }
    if is_affordable(waiter, now) {
        return Some(1);
    }
    // SAFETY: no argument.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    (random & (WAIT_SHARE - 1) == 0).then_some(WAIT_SHARE)
}

/// Whether a wait may be recorded for itself on this CPU: takes from what the CPU has left, and the thread,
/// if that is not much.
#[inline(always)]
fn is_affordable(waiter: &mut Waiter, now: u64) -> bool {
    let Some(allowance) = WAIT_ALLOWANCES.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: the entry is this CPU's, and switches on one CPU do not interrupt each other.
    let allowance = unsafe { &mut *allowance };
    let since = now.wrapping_sub(allowance.earned_at);
    let (burst, earned_ns) = (WAIT_BURST_OF_CPU.load(), WAIT_EARNED_NS_OF_CPU.load());
    if earned_ns > 0 && since >= earned_ns {
        let left = allowance.left + since / earned_ns;
        allowance.left = if left > burst { burst } else { left };
        allowance.earned_at = now.wrapping_sub(since % earned_ns);
    }
    if allowance.left == 0 {
        return false;
    }
    // Half of it is for threads that do not wait often.
    if allowance.left <= burst / 2 {
        if waiter.left == 0 {
            return false;
        }
        waiter.left -= 1;
    }
    allowance.left -= 1;
    true
}

/// A wait of the thread is not recorded.
#[inline(always)]
fn leave_out(tid: u32) {
    if let Some(waiter) = WAITERS.get_ptr_mut(tid) {
        // SAFETY: as in `end`.
        unsafe { (*waiter).has_left_out = 1 };
    }
}

/// The current thread ends: whoever has its number next begins anew. Returns what is known of its waits:
/// bits of [`flag`].
#[inline(always)]
pub fn forget(tid: u32) -> u32 {
    let Some(waiter) = WAITERS.get_ptr_mut(tid) else {
        return flag::WAITS_LEFT_OUT;
    };
    // SAFETY: as in `end`.
    let Waiter { number, has_left_out, .. } = unsafe { *waiter };
    // It was there just now.
    let _ = WAITERS.remove(tid);
    let left_out = if has_left_out != 0 { flag::WAITS_LEFT_OUT } else { 0 };
    left_out | number << flag::LAST_WAIT_SHIFT
}

// A record's waits have eight bits.
const _: () = assert!(WAIT_SHARE.is_power_of_two() && WAIT_SHARE < 256);
