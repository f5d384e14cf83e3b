//! One record, from header to ring buffer.

use aya_ebpf::{
    cty::c_void,
    helpers::{
        bpf_get_current_comm, bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_ns, bpf_ringbuf_output},
    },
};
use holmes_common::{
    counter::{Counter, Stream},
    limits::{COMM_LEN, MAX_FRAMES},
    record::{HEADER_BYTES, RecordHeader, RecordKind, flag},
};

use crate::{
    filter::Subject,
    globals::{OFFSETS, RECORDER_TGID},
    maps::{RECORDS, SCRATCH, Slot},
    stats::count,
    unwind::{kernel_stack, user_stack},
};

/// User space drains the ring buffer by the clock: a wake-up for each record would cost more than
/// the record, and must not happen under the scheduler's locks.
const NO_WAKEUP: u64 = 1;

/// Room for both stacks: a power of two, so that a mask keeps the verifier content.
const FRAME_ROOM: usize = 2 * (MAX_FRAMES + 1);

/// A record under construction.
#[repr(C)]
pub struct Scratch {
    header: RecordHeader,
    frames: [u64; FRAME_ROOM],
}

/// Which stacks a record carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stacks {
    None,
    User,
    UserAndKernel,
}

/// What a probe has to say.
pub struct Report {
    pub stream: Stream,
    pub slot: Slot,
    pub kind: RecordKind,
    pub flags: u32,
    pub stacks: Stacks,
    pub value: i64,
    pub aux: u64,
}

impl Report {
    /// Walks the stacks and sends the record. Counts it as taken, and as lost where it is lost.
    /// Returns whether it was sent.
    #[inline(always)]
    pub fn send(self, ctx: *mut c_void, subject: &Subject) -> bool {
        count(self.stream.taken());
        let Some(scratch) = SCRATCH.get_ptr_mut(self.slot as u32) else {
            count(self.stream.no_scratch());
            return false;
        };
        // SAFETY: the slot is this program's own, and the program does not interrupt itself, so
        // nobody else writes to it on this CPU while we do.
        let scratch = unsafe { &mut *scratch };
        let mut flags = self.flags;
        if subject.tgid == RECORDER_TGID.load() {
            flags |= flag::RECORDER;
        }
        let frames = scratch.frames.as_mut_ptr();

        let mut user_frames = 0;
        let user_task = is_user_task();
        if !user_task {
            flags |= flag::KERNEL_THREAD;
        }
        if self.stacks != Stacks::None && user_task {
            // SAFETY: `frames` has room for twice MAX_FRAMES.
            let walked = unsafe { user_stack(ctx, frames) };
            user_frames = walked.frames;
            if walked.failed {
                flags |= flag::USER_STACK_FAILED;
                count(Counter::UserStackFailed);
            } else if walked.truncated() {
                flags |= flag::USER_STACK_TRUNCATED;
                count(Counter::UserStackTruncated);
            }
        }

        let mut kernel_frames = 0;
        if self.stacks == Stacks::UserAndKernel {
            // SAFETY: at most MAX_FRAMES are used, and as many more fit behind them.
            let walked = unsafe { kernel_stack(ctx, frames.add(user_frames & MAX_FRAMES)) };
            kernel_frames = walked.frames;
            if walked.failed {
                flags |= flag::KERNEL_STACK_FAILED;
                count(Counter::KernelStackFailed);
            } else if walked.truncated() {
                flags |= flag::KERNEL_STACK_TRUNCATED;
                count(Counter::KernelStackTruncated);
            }
        }

        scratch.header = RecordHeader {
            kind: self.kind as u32,
            flags,
            // SAFETY: no argument.
            time_ns: unsafe { bpf_ktime_get_ns() },
            cgroup_id: subject.cgroup_id,
            tgid: subject.tgid,
            tid: subject.tid,
            cpu: unsafe { bpf_get_smp_processor_id() },
            user_frames: user_frames as u16,
            kernel_frames: kernel_frames as u16,
            comm: bpf_get_current_comm().unwrap_or([0; COMM_LEN]),
            value: self.value,
            aux: self.aux,
        };
        let frames = (user_frames + kernel_frames) & (FRAME_ROOM - 1);
        let bytes = HEADER_BYTES + frames * size_of::<u64>();
        // SAFETY: `bytes` is at most the size of `Scratch`, which the verifier checks.
        let sent = unsafe {
            bpf_ringbuf_output(
                (&raw const RECORDS).cast_mut().cast(),
                (&raw mut *scratch).cast(),
                bytes as u64,
                NO_WAKEUP,
            )
        };
        if sent < 0 {
            count(self.stream.ring_full());
        }
        sent >= 0
    }
}

/// Whether the current task has a user side. Where the kernel's layout is not known, yes.
#[inline(always)]
fn is_user_task() -> bool {
    crate::filter::current_mm(OFFSETS.load().task_mm) != Some(0)
}

const _: () = assert!(FRAME_ROOM.is_power_of_two());
