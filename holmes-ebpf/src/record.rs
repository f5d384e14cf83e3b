//! One record, from header to ring buffer.
//!
//! A record with a user stack is opened by the probe, filled by a chain of programs
//! (`unwind`), and sent by the last of them: [`finish`]. One without is sent at once.

use aya_ebpf::{
    cty::c_void,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_ns, bpf_ringbuf_output},
    },
};
use holmes_common::{
    counter::{Counter, Stream},
    limits::{COMM_LEN, MAX_KERNEL_FRAMES, MAX_USER_FRAMES},
    record::{HEADER_BYTES, RecordHeader, RecordKind, flag},
    unwind::WalkEnd,
};

use crate::{
    filter::Subject,
    globals::{COPY_STACKS, RECORDER_TGID},
    maps::{EMPTY_SCRATCH, PROCESSES, RECORDS, SCRATCH, Slot, THREAD_SCRATCH, WOKEN_AT},
    stats::{add, cgroup_totals, count},
    task::current_mm,
    unwind::{
        Chain, FINISH, STEP, copy, frame_pointers, kernel_stack,
        registers::{Found, Where},
        walk::{self, Walk},
    },
};

/// User space drains the ring buffer by the clock: a wake-up for each record would cost more than
/// the record. The exception is [`WAKEUP`].
const NO_WAKEUP: u64 = 1;

/// `BPF_RB_FORCE_WAKEUP`: wake user space in any case.
const WAKEUP: u64 = 2;

/// User space is woken on a CPU for unknown processes at most this often, in nanoseconds: there may be
/// some that cannot be known.
const WAKE_INTERVAL: u64 = 20_000_000;

/// Room for both stacks: a power of two, so that a mask keeps the verifier content.
const FRAME_ROOM: usize = 2 * (MAX_USER_FRAMES + 1);

/// A record under construction, and the walk of its stack.
#[repr(C)]
pub struct Scratch {
    pub header: RecordHeader,
    pub frames: [u64; FRAME_ROOM],
    pub walk: Walk,
}

/// Where the current program, or chain of programs, puts its record together.
#[inline(always)]
pub fn scratch(slot: Slot) -> Option<*mut Scratch> {
    if slot.is_of_thread() {
        THREAD_SCRATCH.get_ptr_mut(bpf_get_current_pid_tgid())
    } else {
        SCRATCH.get_ptr_mut(slot as u32)
    }
}

/// Makes the scratch memory of a slot that each thread has of its own.
#[inline(always)]
fn make_scratch(slot: Slot) {
    if slot.is_of_thread()
        && let Some(empty) = EMPTY_SCRATCH.get_ptr(0)
    {
        // SAFETY: the pointer comes from the map. A failure shows when the record is opened.
        let _ = THREAD_SCRATCH.insert(bpf_get_current_pid_tgid(), unsafe { &*empty }, 0);
    }
}

/// Gives it up.
#[inline(always)]
pub fn drop_scratch(slot: Slot) {
    if slot.is_of_thread() {
        // Whoever made it is the only one who takes it out.
        let _ = THREAD_SCRATCH.remove(bpf_get_current_pid_tgid());
    }
}

/// What a probe has to say.
pub struct Report {
    pub stream: Stream,
    pub kind: RecordKind,
    pub flags: u32,
    pub value: i64,
    pub aux: u64,
}

impl Report {
    /// Sends the record without stacks. Counts it as taken, and as lost where it is lost.
    #[inline(always)]
    pub fn send(self, subject: &Subject) {
        self.send_also(subject, 0, NO_WAKEUP);
    }

    /// Sends the record without stacks, and wakes user space: what it is to look at does not last.
    #[inline(always)]
    pub fn send_at_once(self, subject: &Subject) {
        self.send_also(subject, 0, WAKEUP);
    }

    /// Sends the record without stacks and with a third value.
    #[inline(always)]
    pub fn send_with(self, subject: &Subject, third: u64) {
        self.send_also(subject, third, NO_WAKEUP);
    }

    #[inline(always)]
    fn send_also(self, subject: &Subject, third: u64, wakeup: u64) {
        let stream = self.stream;
        count(stream.taken());
        let mut header = self.header(subject);
        header.stopped_at = third;
        if !output_header(&mut header, wakeup) {
            count(stream.ring_full());
        }
    }

    /// Sends the record with the user stack that begins at these registers, and `with_kernel` with
    /// the kernel's; `keep` may keep more of the leaf for the walk. Does not return where that goes well; otherwise the record is lost, and
    /// counted.
    #[inline(always)]
    pub fn send_with_stacks(
        self,
        ctx: *mut c_void,
        subject: &Subject,
        chain: &Chain,
        found: &Found,
        with_kernel: bool,
        keep: impl FnOnce(&mut Walk),
    ) {
        let Some(scratch) = self.open(subject, chain.slot) else {
            return;
        };
        scratch.walk.with_kernel = with_kernel;
        scratch.walk.frames = 0;
        scratch.walk.wake = false;
        let mut program = FINISH;
        let end = if current_mm() == Some(0) {
            scratch.header.flags |= flag::KERNEL_THREAD;
            WalkEnd::NotWalked
        } else {
            match found.at {
                Where::Nowhere => WalkEnd::NoRegisters,
                Where::Compat => WalkEnd::Compat,
                Where::Known if PROCESSES.get_ptr(subject.tgid).is_some() => {
                    scratch.walk.begin(&found.registers, scratch.header.time_ns);
                    keep(&mut scratch.walk);
                    program = STEP;
                    WalkEnd::NotWalked
                }
                Where::Known => {
                    scratch.walk.wake = true;
                    WalkEnd::UnknownProcess
                }
            }
        };
        scratch.header.walk_end = end as u16;
        walk::call(ctx, chain, program);
    }

    /// Fills in the header. Counts the record as taken, and as lost if there is no memory for it.
    #[inline(always)]
    fn open(self, subject: &Subject, slot: Slot) -> Option<&'static mut Scratch> {
        count(self.stream.taken());
        make_scratch(slot);
        let Some(scratch) = scratch(slot) else {
            count(self.stream.no_scratch());
            return None;
        };
        // SAFETY: the slot is this program's own, and the program does not interrupt itself, so
        // nobody else writes to it on this CPU while we do; or it is this thread's own.
        let scratch = unsafe { &mut *scratch };
        scratch.header = self.header(subject);
        Some(scratch)
    }

    /// The record's fixed part.
    #[inline(always)]
    fn header(self, subject: &Subject) -> RecordHeader {
        let mut flags = self.flags;
        if subject.tgid == RECORDER_TGID.load() {
            flags |= flag::RECORDER;
        }
        RecordHeader {
            kind: self.kind as u16,
            walk_end: WalkEnd::NotWalked as u16,
            flags,
            // SAFETY: no argument.
            time_ns: unsafe { bpf_ktime_get_ns() },
            cgroup_id: subject.cgroup_id,
            tgid: subject.tgid,
            tid: subject.tid,
            cpu: unsafe { bpf_get_smp_processor_id() },
            user_frames: 0,
            kernel_frames: 0,
            comm: bpf_get_current_comm().unwrap_or([0; COMM_LEN]),
            value: self.value,
            aux: self.aux,
            stopped_at: 0,
        }
    }

    /// Sends the record without stacks. Whether it was sent; nothing is counted.
    #[inline(always)]
    pub fn send_header(self, subject: &Subject) -> bool {
        output_header(&mut self.header(subject), NO_WAKEUP)
    }
}

/// Hands a record without stacks to user space; whether there was room.
#[inline(always)]
fn output_header(header: &mut RecordHeader, wakeup: u64) -> bool {
    // SAFETY: the record is as large as the header.
    let sent = unsafe {
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast(),
            (&raw mut *header).cast(),
            HEADER_BYTES as u64,
            wakeup,
        )
    };
    sent == 0
}

/// Adds the stacks that the kernel walks, and sends the record: the last program of each chain.
#[inline(always)]
pub fn finish(ctx: *mut c_void, chain: &Chain) -> u32 {
    let Some(scratch) = scratch(chain.slot) else {
        count(chain.stream.no_scratch());
        return 0;
    };
    // SAFETY: the slot is this chain's own, and a chain does not interrupt itself.
    let scratch = unsafe { &mut *scratch };
    let frames = scratch.frames.as_mut_ptr();
    let end = scratch.header.walk_end;
    let mut user_frames = scratch.walk.frames as usize & MAX_USER_FRAMES;
    let by_kernel = end == WalkEnd::UnknownProcess as u16
        || end == WalkEnd::Compat as u16
        || end == WalkEnd::NoRegisters as u16;
    if by_kernel {
        // SAFETY: `frames` has room for far more than MAX_KERNEL_FRAMES.
        let walked = unsafe { frame_pointers(ctx, frames) };
        user_frames = walked.frames;
        if walked.failed {
            scratch.header.flags |= flag::USER_STACK_FAILED;
        } else {
            scratch.header.flags |= flag::FRAME_POINTERS;
            if walked.truncated() {
                scratch.header.flags |= flag::USER_STACK_TRUNCATED;
            }
        }
    }
    if end < WalkEnd::ALL.len() as u16 {
        count_walk(end);
    }

    let mut kernel_frames = 0;
    if scratch.walk.with_kernel {
        // SAFETY: at most MAX_USER_FRAMES are used, and MAX_KERNEL_FRAMES more fit behind them.
        let walked = unsafe { kernel_stack(ctx, frames.add(user_frames & MAX_USER_FRAMES)) };
        kernel_frames = walked.frames;
        if walked.failed {
            scratch.header.flags |= flag::KERNEL_STACK_FAILED;
            count(Counter::KernelStackFailed);
        } else if walked.truncated() {
            scratch.header.flags |= flag::KERNEL_STACK_TRUNCATED;
            count(Counter::KernelStackTruncated);
        }
    }
    scratch.header.user_frames = user_frames as u16;
    scratch.header.kernel_frames = kernel_frames as u16;

    if COPY_STACKS.load() != 0
        && chain.slot as u32 == Slot::Sample as u32
        && !by_kernel
        && user_frames > 0
    {
        copy::send(&scratch.header, &scratch.walk);
    }

    let wakeup = if scratch.walk.wake && is_time_to_wake(scratch.header.time_ns) {
        WAKEUP
    } else {
        NO_WAKEUP
    };
    output(scratch, chain.stream, chain.slot, user_frames + kernel_frames, wakeup);
    drop_scratch(chain.slot);
    0
}

/// Whether to wake user space for an unknown process: not if it was woken a moment ago.
#[inline(always)]
fn is_time_to_wake(now: u64) -> bool {
    let Some(woken_at) = WOKEN_AT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry is this CPU's. Where two programs come in each other's way it is woken once too
    // often, or by one of them alone.
    let woken_at = unsafe { &mut *woken_at };
    let is_time = now.wrapping_sub(*woken_at) >= WAKE_INTERVAL;
    if is_time {
        *woken_at = now;
    }
    is_time
}

/// Counts how a walk has ended.
#[inline(always)]
fn count_walk(end: u16) {
    let first = Counter::WalkNotWalked as u32;
    if let Some(word) = crate::maps::COUNTS.get_ptr_mut(first + u32::from(end)) {
        // SAFETY: the pointer comes from the map and the verifier has seen the null check.
        unsafe { add(word, 1) };
    }
}

/// Hands the record to user space. What the ring buffer has no room for is counted as lost.
#[inline(always)]
fn output(scratch: &mut Scratch, stream: Stream, slot: Slot, frames: usize, wakeup: u64) {
    let bytes = HEADER_BYTES + (frames & (FRAME_ROOM - 1)) * size_of::<u64>();
    // SAFETY: `bytes` is at most the size of header and frames, which the verifier checks.
    let sent = unsafe {
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast(),
            (&raw mut *scratch).cast(),
            bytes as u64,
            wakeup,
        )
    };
    if sent < 0 {
        count(stream.ring_full());
        if slot as u32 == Slot::Sample as u32
            && let Some(totals) = cgroup_totals(scratch.header.cgroup_id)
        {
            // SAFETY: the pointer comes from the map.
            unsafe { add(&raw mut (*totals).samples_lost, 1) };
        }
    }
}

const _: () = assert!(FRAME_ROOM.is_power_of_two());
const _: () = assert!(FRAME_ROOM > MAX_USER_FRAMES + MAX_KERNEL_FRAMES);
