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
    maps::{ALLOCATION_SCRATCH, PROCESSES, RECORDS, SCRATCH, Slot},
    stats::{add, cgroup_totals, count},
    task::current_mm,
    unwind::{
        Chain, FINISH, STEP, copy, frame_pointers, kernel_stack,
        registers::Found,
        walk::{self, Walk},
    },
};

/// User space drains the ring buffer by the clock: a wake-up for each record would cost more than
/// the record. The exception is [`WAKEUP`].
const NO_WAKEUP: u64 = 1;

/// `BPF_RB_FORCE_WAKEUP`: wake user space in any case.
const WAKEUP: u64 = 2;

/// A chain wakes user space on a CPU for unknown processes at most this often, in nanoseconds: there may be
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
    /// When user space was woken last for an unknown process, on this CPU.
    woken_at: u64,
}

/// Where the current program, or chain of programs, puts its record together.
#[inline(always)]
pub fn scratch(slot: Slot) -> Option<*mut Scratch> {
    if slot as u32 == Slot::Allocation as u32 {
        ALLOCATION_SCRATCH.get_ptr_mut(bpf_get_current_pid_tgid())
    } else {
        SCRATCH.get_ptr_mut(slot as u32)
    }
}

/// What a probe has to say.
pub struct Report {
    pub stream: Stream,
    pub slot: Slot,
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
        let (stream, slot) = (self.stream, self.slot);
        if let Some(scratch) = self.open(subject) {
            scratch.header.stopped_at = third;
            output(scratch, stream, slot, 0, wakeup);
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
        let Some(scratch) = self.open(subject) else {
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
            match found {
                Found::None => WalkEnd::NoRegisters,
                Found::Compat => WalkEnd::Compat,
                Found::Registers(registers) if PROCESSES.get_ptr(subject.tgid).is_some() => {
                    scratch.walk.begin(registers, scratch.header.time_ns);
                    keep(&mut scratch.walk);
                    program = STEP;
                    WalkEnd::NotWalked
                }
                Found::Registers(_) => {
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
    fn open(self, subject: &Subject) -> Option<&'static mut Scratch> {
        count(self.stream.taken());
        let Some(scratch) = scratch(self.slot) else {
            count(self.stream.no_scratch());
            return None;
        };
        // SAFETY: the slot is this program's own, and the program does not interrupt itself, so
        // nobody else writes to it on this CPU while we do.
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

    /// Sends the fixed part alone, without scratch memory. Whether it was sent; nothing is counted.
    #[inline(always)]
    pub fn send_header(self, subject: &Subject) -> bool {
        let mut header = self.header(subject);
        // SAFETY: the record is as large as the header.
        let sent = unsafe {
            bpf_ringbuf_output(
                (&raw const RECORDS).cast_mut().cast(),
                (&raw mut header).cast(),
                HEADER_BYTES as u64,
                NO_WAKEUP,
            )
        };
        sent == 0
    }
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

    let now = scratch.header.time_ns;
    let wake = scratch.walk.wake && now.wrapping_sub(scratch.woken_at) >= WAKE_INTERVAL;
    if wake {
        scratch.woken_at = now;
    }
    let wakeup = if wake { WAKEUP } else { NO_WAKEUP };
    output(scratch, chain.stream, chain.slot, user_frames + kernel_frames, wakeup);
    0
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
