//! Threads that sleep now: what each of them waits for, where in the kernel, and where in its process it
//! entered it. For waits that nobody saw begin, or that were left out.
//!
//! Another thread's memory cannot be read from here on every kernel: its registers are told, and user space
//! walks its stack.

use aya_ebpf::{
    bindings::{seq_file, task_struct},
    cty::c_void,
    helpers::{
        bpf_get_current_task, bpf_probe_read_kernel,
        generated::{
            bpf_get_smp_processor_id, bpf_get_task_stack, bpf_ktime_get_ns, bpf_seq_write,
        },
    },
};
use holmes_common::{
    counter::Counter,
    limits::{COMM_LEN, MAX_KERNEL_FRAMES},
    record::{
        BLOCKED_BYTES, BlockedThread, RecordHeader, RecordKind, UNKNOWN_CALL, flag, wait_value,
    },
    unwind::WalkEnd,
};

use crate::{
    filter::subject_of,
    globals::{RECORDER_TGID, offset},
    maps::BLOCKED_SCRATCH,
    spaces::VisitedTask,
    stats::count,
    system_call,
    task::read,
    unwind::{
        STACK_BYTES,
        registers::{self, Found, Registers, Where},
    },
    waits,
};

/// A record under construction: the fixed part and the kernel's frames.
#[repr(C)]
pub struct BlockedScratch {
    thread: BlockedThread,
    frames: [u64; MAX_KERNEL_FRAMES + 1],
}

/// `TASK_DEAD` of a task's state: it has gone, and is still listed.
const DEAD: u32 = 0x80;

/// Called for each task of the host when user space looks.
// The crate of the probes has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn visit_blocked(ctx: *mut c_void) -> u32 {
    let visited = ctx.cast_const().cast::<VisitedTask>();
    // As memory, for what is read through helpers; and below as the pointers that the verifier knows, for
    // the helpers that take nothing else.
    // SAFETY: the helper checks the address itself.
    let task = unsafe { bpf_probe_read_kernel(visited) }.map_or(0, |visited| visited.task);
    // SAFETY: the context is valid while the program runs. Volatile, so that each is one load.
    let (meta, known) = unsafe {
        ((&raw const (*visited).meta).read_volatile(), (&raw const (*visited).task).read_volatile())
    };
    if task == 0 || known == 0 {
        return 0;
    }
    // SAFETY: `struct bpf_iter_meta` begins with the file that is written to.
    let file = unsafe { (meta as *const u64).read_volatile() } as *mut seq_file;
    if let Some((scratch, bytes)) = describe(task, known as *mut task_struct) {
        // Where the file's buffer is full the kernel empties it, and comes back with the same task.
        // SAFETY: `bytes` is at most the record's, which the verifier checks.
        let _ = unsafe { bpf_seq_write(file, (&raw const *scratch).cast(), bytes) };
    }
    0
}

/// The record of a task, and how long it is; `None` if it does not sleep, or is nobody's.
#[inline(always)]
fn describe(task: u64, known: *mut task_struct) -> Option<(&'static BlockedScratch, u32)> {
    let state = read(task, offset!(task_state)) as u32;
    if state == 0
        || state & DEAD != 0
        || read(task, offset!(task_mm)) == 0
        || read(task, offset!(task_flags)) as u32 & waits::EXITING != 0
    {
        return None;
    }
    let subject = subject_of(task).filter(|subject| subject.tid != 0)?;
    let scratch = BLOCKED_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the entry is this CPU's, on which the program stays; and nobody but user space, which looks
    // once at a time, has it run.
    let scratch = unsafe { &mut *scratch };
    // Before its end is waited for: what the thread does from then on is told with a later time.
    // SAFETY: no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    let looked = waits::look(task, &subject)?;
    // It may just have been woken, and even be ending: then its end was not waited for, and it sleeps no longer.
    if read(task, offset!(task_state)) as u32 == 0
        || read(task, offset!(task_flags)) as u32 & waits::EXITING != 0
    {
        waits::look_away(task, &looked);
        return None;
    }
    let regs = registers::saved_of(task, known);
    let found = regs.map_or(Found::NONE, registers::entered_at);
    let (mut call, mut lock) = (UNKNOWN_CALL, 0);
    if let Some(regs) = regs.filter(|_| !system_call::is_compat_of(task)) {
        call = system_call::number(regs) as u32;
        if call == system_call::FUTEX as u32
            && let Some([address, ..]) = system_call::arguments(regs)
        {
            lock = address;
        }
    }
    let own = if subject.tgid == RECORDER_TGID.load() { flag::RECORDER } else { 0 };
    let comm = task.wrapping_add(u64::from(offset!(task_comm))) as *const [u8; COMM_LEN];
    // When it got the CPU last, and for how long it had it then.
    let arrived = read(task, offset!(task_last_arrival));
    let before = read(task, offset!(task_run_before));
    let ran = read(task, offset!(task_run_time)).saturating_sub(before);
    let thread = &mut scratch.thread;
    thread.header = RecordHeader {
        kind: RecordKind::Blocked as u16,
        walk_end: WalkEnd::NotWalked as u16,
        flags: own,
        time_ns: now,
        cgroup_id: subject.cgroup_id,
        tgid: subject.tgid,
        tid: subject.tid,
        // SAFETY: no argument.
        cpu: unsafe { bpf_get_smp_processor_id() },
        user_frames: 0,
        kernel_frames: 0,
        // SAFETY: the helper checks the address itself.
        comm: unsafe { bpf_probe_read_kernel(comm) }.unwrap_or([0; COMM_LEN]),
        value: wait_value(1, looked.number, state, call),
        aux: lock,
        stopped_at: 0,
    };
    let Registers { ip, sp, bp, link, in_call } = found.registers;
    [thread.ip, thread.sp, thread.bp, thread.link, thread.in_call] = [ip, sp, bp, link, in_call];
    match found.at {
        Where::Known => {}
        Where::Compat => thread.header.walk_end = WalkEnd::Compat as u16,
        Where::Nowhere => thread.header.walk_end = WalkEnd::NoRegisters as u16,
    }
    thread.left_at = if arrived == 0 { 0 } else { arrived.wrapping_add(ran) };
    // SAFETY: no argument, always allowed in a tracing program.
    thread.reader_at = read(unsafe { bpf_get_current_task() }, offset!(task_last_arrival));
    // SAFETY: the frames have that much room; the task is the verifier's own pointer.
    let written =
        unsafe { bpf_get_task_stack(known, scratch.frames.as_mut_ptr().cast(), STACK_BYTES, 0) };
    let mut frames = 0;
    if written < 0 {
        scratch.thread.header.flags |= flag::KERNEL_STACK_FAILED;
        count(Counter::KernelStackFailed);
    } else {
        // The mask tells the verifier what the helper's contract already says.
        frames = (written as usize >> 3) & MAX_KERNEL_FRAMES;
    }
    scratch.thread.header.kernel_frames = frames as u16;
    Some((scratch, (BLOCKED_BYTES + frames * size_of::<u64>()) as u32))
}
