//! The bytes of one ring-buffer record: a [`RecordHeader`], then `user_frames` user addresses,
//! then `kernel_frames` kernel addresses, each a native-endian `u64`, leaf first.
//!
//! All user addresses but the leaf are return addresses, one behind a call: whoever looks one up
//! takes one off. A frame that a signal interrupted was not called: its address is written with one
//! added, so that the same holds.

use crate::limits::{COMM_LEN, MAX_KERNEL_FRAMES, MAX_USER_FRAMES};

/// What a record reports. The value of [`RecordHeader::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// A CPU was found executing this task.
    Sample = 1,
    /// `mmap` succeeded; `value` is the length asked for, in bytes. `aux` is how many calls the
    /// record stands for: the value is that of all of them.
    Mmap = 2,
    /// The process gave memory back in which faults had been sampled; `value` is the length in
    /// bytes from the address `aux` on.
    Released = 3,
    /// `brk` moved the heap's end up; `value` is by how many bytes, `aux` as for [`Self::Mmap`].
    Brk = 4,
    /// `mremap` made a mapping larger; `value` is by how many bytes, `aux` as for [`Self::Mmap`].
    Mremap = 5,
    /// A task was created by this one; `aux` is the new `tgid << 32 | tid`, and
    /// [`flag::NEW_THREAD`] tells a thread from a process.
    NewTask = 6,
    /// The process has executed a new program.
    Exec = 7,
    /// The thread ends. [`flag::LAST_WAIT_SHIFT`] and [`flag::WAITS_LEFT_OUT`] say of its waits.
    Exit = 8,
    /// Memory of a sample's stack, see [`StackCopy`]. It precedes the sample, which has the same
    /// time and CPU.
    StackCopy = 9,
    /// The process touched a page that was not there, and now is: `aux` is the address, `value`
    /// the bytes of memory that this sample of such faults stands for. [`flag::HUGE_PAGE`] says
    /// that the pages are huge.
    Fault = 10,
    /// `mremap` moved memory in which faults had been sampled: from the address `aux` to the
    /// address `value`, as many bytes as `stopped_at` says.
    Moved = 11,
    /// The kernel chose a process to kill because memory ran out. The header's process and cgroup are
    /// the victim's, its name is that of the task that asked for memory.
    OomVictim = 12,
    /// A sampled allocation was made; `aux` is its address, `value` see [`allocation_value`].
    Allocation = 13,
    /// A sampled allocation is given back; `aux` is its address.
    Free = 14,
    /// The thread leaves the CPU; `value` see [`wait_value`], `aux` is the address of the futex that it
    /// waits for, if it does.
    Wait = 15,
    /// A thread gets the CPU whose leaving was recorded; `value` is the number of that wait, see
    /// [`wait_value`]. The name in the header is another's.
    WaitEnd = 16,
    /// The thread sleeps; `value` and `aux` as of a [`Self::Wait`]. Not in the ring buffer: the head of a
    /// [`BlockedThread`].
    Blocked = 17,
}

impl RecordKind {
    /// The kind with this number, or `None` for a number that no probe writes.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Sample,
            2 => Self::Mmap,
            3 => Self::Released,
            4 => Self::Brk,
            5 => Self::Mremap,
            6 => Self::NewTask,
            7 => Self::Exec,
            8 => Self::Exit,
            9 => Self::StackCopy,
            10 => Self::Fault,
            11 => Self::Moved,
            12 => Self::OomVictim,
            13 => Self::Allocation,
            14 => Self::Free,
            15 => Self::Wait,
            16 => Self::WaitEnd,
            17 => Self::Blocked,
            _ => return None,
        })
    }
}

/// Bits of [`RecordHeader::value`] that hold an allocation's size, more than any address space.
pub const ALLOCATION_SIZE_BITS: u32 = 56;

/// `value` of a [`RecordKind::Allocation`]: bytes asked for, and how many sampling intervals it
/// stands for; 0 if it is as long as one, and stands for itself.
pub const fn allocation_value(size: u64, intervals: u64) -> i64 {
    (size | intervals << ALLOCATION_SIZE_BITS) as i64
}

/// Of a [`RecordKind::Wait`] that is no system call: the thread faulted, or was preempted.
pub const NO_CALL: u32 = u32::MAX;

/// Of one that is in a system call whose number means something else, as of a 32-bit process.
pub const UNKNOWN_CALL: u32 = u32::MAX - 1;

/// `value` of a [`RecordKind::Wait`]: how many waits it stands for (8 bits), the number of this wait among
/// the thread's recorded ones (8 bits, around and around), the lowest bits of the state that the thread
/// waits in (16 bits; 0 if it could go on running), and the system call's number.
pub const fn wait_value(waits: u64, number: u8, state: u32, call: u32) -> i64 {
    let counts = (waits & 0xff) | (number as u64) << 8;
    (counts | (state as u64 & 0xffff) << 16 | (call as u64) << 32) as i64
}

/// Bits of [`RecordHeader::flags`].
pub mod flag {
    /// The user stack could not be walked; the record has no user frames.
    pub const USER_STACK_FAILED: u32 = 1 << 0;
    /// The kernel stack could not be walked; the record has no kernel frames.
    pub const KERNEL_STACK_FAILED: u32 = 1 << 1;
    /// The user stack has more frames than fit.
    pub const USER_STACK_TRUNCATED: u32 = 1 << 2;
    /// The kernel stack has more frames than fit.
    pub const KERNEL_STACK_TRUNCATED: u32 = 1 << 3;
    /// The task is one of the recorder's own threads.
    pub const RECORDER: u32 = 1 << 4;
    /// The created task is a thread of its creator's process.
    pub const NEW_THREAD: u32 = 1 << 5;
    /// The task has no user side: a kernel thread.
    pub const KERNEL_THREAD: u32 = 1 << 6;
    /// A part of the user stack was walked by frame pointers: functions may be missing in it.
    pub const FRAME_POINTERS: u32 = 1 << 7;
    /// The walk came through an executable whose table is not there: it is wanted.
    pub const TABLE_WANTED: u32 = 1 << 8;
    /// The touched page is a huge one.
    pub const HUGE_PAGE: u32 = 1 << 9;
    /// The ending thread is the last of its process.
    pub const LAST_THREAD: u32 = 1 << 10;
    /// The thread has left the CPU since its last recorded wait, and that was not recorded; or none was.
    pub const WAITS_LEFT_OUT: u32 = 1 << 11;
    /// Of a thread that ends, from this bit on: the number of its last recorded wait.
    pub const LAST_WAIT_SHIFT: u32 = 24;
}

/// The fixed part of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHeader {
    /// A [`RecordKind`].
    pub kind: u16,
    /// How the walk of the user stack ended: a [`crate::unwind::WalkEnd`].
    pub walk_end: u16,
    /// Bits of [`flag`].
    pub flags: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// Inode number of the task's cgroup in the watched hierarchy; 0 where it cannot be known.
    pub cgroup_id: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// The CPU the probe ran on.
    pub cpu: u32,
    /// User frames that follow the header.
    pub user_frames: u16,
    /// Kernel frames that follow the user frames.
    pub kernel_frames: u16,
    /// The task's name, NUL-terminated. A target controls its bytes.
    pub comm: [u8; COMM_LEN],
    /// By kind, see [`RecordKind`].
    pub value: i64,
    /// By kind, see [`RecordKind`].
    pub aux: u64,
    /// Where the walk of the user stack stopped before the outermost frame, as an address in the
    /// process; 0 if it did not. By kind for records without a stack, see [`RecordKind`].
    pub stopped_at: u64,
}

/// A record of kind [`RecordKind::StackCopy`], without frames: what a user stack was walked from.
/// Only made if asked for: it is far larger than what comes of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct StackCopy {
    /// The head, the same as the sample's.
    pub header: RecordHeader,
    /// Where the process was.
    pub ip: u64,
    /// Its stack pointer: the address of the first byte of `bytes`.
    pub sp: u64,
    /// Its frame pointer register.
    pub bp: u64,
    /// Bytes that could be read.
    pub length: u64,
    /// The stack's memory, upwards.
    pub bytes: [u8; STACK_COPY_BYTES],
}

/// Bytes copied of a stack. Of native programs' stacks, nine of ten are smaller.
pub const STACK_COPY_BYTES: usize = 16 << 10;

const _: () = assert!(core::mem::offset_of!(StackCopy, bytes) == HEADER_BYTES + 32);

/// A thread that sleeps, as who looks at all threads is told: the record's fixed part, followed by the frames
/// of its kernel stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BlockedThread {
    /// The head, without user frames; `walk_end` says why its stack cannot be walked, or
    /// [`crate::unwind::WalkEnd::NotWalked`].
    pub header: RecordHeader,
    /// Where it entered the kernel.
    pub ip: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frame pointer register.
    pub bp: u64,
    /// Its link register, on arm64; 0 elsewhere.
    pub link: u64,
    /// 1 if `ip` is behind the instruction that entered the kernel, as a return address is; else 0.
    pub in_call: u64,
    /// When it left the CPU, by the scheduler's clock in nanoseconds; 0 where the kernel does not tell.
    pub left_at: u64,
    /// When the thread that looks got its CPU, by the same clock; 0 as above.
    pub reader_at: u64,
}

/// Size of the fixed part of a [`BlockedThread`] in bytes.
pub const BLOCKED_BYTES: usize = size_of::<BlockedThread>();

const _: () = assert!(BLOCKED_BYTES == HEADER_BYTES + 56, "BlockedThread has padding");

/// Size of the fixed part in bytes.
pub const HEADER_BYTES: usize = size_of::<RecordHeader>();

/// Size of the largest record in bytes.
pub const MAX_RECORD_BYTES: usize =
    HEADER_BYTES + (MAX_USER_FRAMES + MAX_KERNEL_FRAMES) * size_of::<u64>();

// The frames follow at once, so the header must end on their alignment and hold no padding.
const _: () = assert!(HEADER_BYTES == 80);
const _: () = assert!(HEADER_BYTES.is_multiple_of(align_of::<u64>()));
const _: () = assert!(core::mem::offset_of!(RecordHeader, time_ns) == 8);
const _: () = assert!(core::mem::offset_of!(RecordHeader, tgid) == 24);
const _: () = assert!(core::mem::offset_of!(RecordHeader, user_frames) == 36);
const _: () = assert!(core::mem::offset_of!(RecordHeader, comm) == 40);
const _: () = assert!(core::mem::offset_of!(RecordHeader, value) == 56);
const _: () = assert!(core::mem::offset_of!(RecordHeader, aux) == 64);
const _: () = assert!(core::mem::offset_of!(RecordHeader, stopped_at) == 72);
