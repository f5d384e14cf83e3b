//! Allocations of one process, sampled by bytes: probes in user space, where its allocator begins
//! and returns.
//!
//! Every call costs the trap into the kernel; what it is made of here is a subtraction. The bytes
//! that a thread asks for are laid end to end and cut into intervals, and a random byte of each
//! interval is chosen: the allocation that holds it is the sample, and stands for the whole interval.
//! That is true to the byte on average, whatever the sizes and however regular they come. What is as
//! long as an interval is always a sample, and stands for itself.
//!
//! An allocator calls itself: `calloc` calls `malloc`, `realloc` calls `malloc` and `free`. What
//! begins below a call under way on the same stack is part of that call.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_prandom_u32, generated::bpf_probe_read_user},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use holmes_common::{
    counter::{Counter, Stream},
    record::{RecordKind, allocation_value},
};

use crate::{
    filter::{Subject, subject},
    globals::ALLOCATION_INTERVAL,
    maps::{ALLOCATING, LIVE},
    record::Report,
    stats::count,
    unwind::{chains, registers},
};

/// Calls below one call under way. An allocator makes two or three; more say that the one was left
/// without a return (`longjmp`), and that these are none of its.
const MAX_NESTED: u32 = 16;

/// What is known of a thread that allocates.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Caller {
    /// The stack pointer with which the call under way began; 0 if there is none.
    sp: u64,
    /// Bytes up to and with the next chosen one.
    left: u64,
    /// Bytes of its interval behind that one.
    behind: u64,
    /// Bytes that the call under way asked for.
    size: u64,
    /// Where it is going to put the address, if it does not return it.
    out: u64,
    /// The sampled allocation that it is going to give back; 0 if none.
    old: u64,
    /// Intervals that it stands for.
    intervals: u32,
    /// Calls that began below it.
    nested: u32,
    /// Whether it is a sample.
    sampled: u64,
}

/// `malloc(size)`, and what else asks for bytes in the first argument.
#[uprobe]
pub fn allocation_first(ctx: ProbeContext) -> u32 {
    begin(&ctx, argument(&ctx, 0), 0, 0)
}

/// `aligned_alloc(alignment, size)`, and what else asks for bytes in the second argument.
#[uprobe]
pub fn allocation_second(ctx: ProbeContext) -> u32 {
    begin(&ctx, argument(&ctx, 1), 0, 0)
}

/// `calloc(count, size)`.
#[uprobe]
pub fn allocation_product(ctx: ProbeContext) -> u32 {
    begin(&ctx, product(argument(&ctx, 0), argument(&ctx, 1)), 0, 0)
}

/// `posix_memalign(&address, alignment, size)`, which returns an error number.
#[uprobe]
pub fn allocation_out(ctx: ProbeContext) -> u32 {
    begin(&ctx, argument(&ctx, 2), argument(&ctx, 0), 0)
}

/// `realloc(address, size)`.
#[uprobe]
pub fn allocation_again(ctx: ProbeContext) -> u32 {
    begin(&ctx, argument(&ctx, 1), 0, argument(&ctx, 0))
}

/// `reallocarray(address, count, size)`.
#[uprobe]
pub fn allocation_product_again(ctx: ProbeContext) -> u32 {
    begin(&ctx, product(argument(&ctx, 1), argument(&ctx, 2)), 0, argument(&ctx, 0))
}

/// `free(address)`. Before it is done: behind it the address may be another thread's.
#[uprobe]
pub fn allocation_free(ctx: ProbeContext) -> u32 {
    let address = argument(&ctx, 0);
    if is_live(address) && LIVE.remove(address).is_ok() {
        send_free(address);
    }
    0
}

/// Where any of them but `free` returns.
#[uretprobe]
pub fn allocation_return(ctx: RetProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(caller) = ALLOCATING.get_ptr_mut(thread) else {
        return 0;
    };
    // SAFETY: the entry is this thread's own, and nothing else writes to it.
    let caller = unsafe { &mut *caller };
    let sp = registers::stack_pointer_at_entry(&ctx);
    if caller.sp == 0 || sp < caller.sp {
        // Of a call that began before the probes did, or below another.
        return 0;
    }
    if sp > caller.sp {
        abandon(caller);
        return 0;
    }
    caller.sp = 0;
    if caller.sampled == 0 && caller.old == 0 {
        return 0;
    }
    let returned: u64 = ctx.ret();
    let address = if caller.out == 0 {
        returned
    } else if returned as i32 == 0 {
        read_user(caller.out)
    } else {
        0
    };
    give_back_old(caller, address);
    if caller.sampled == 0 {
        return 0;
    }
    caller.sampled = 0;
    // One that failed is no allocation.
    if address != 0 {
        send(&ctx, address, allocation_value(caller.size, u64::from(caller.intervals)));
    }
    0
}

/// Drops what is known of the current thread: it ends and will not come back.
#[inline(always)]
pub fn forget_current() {
    if ALLOCATION_INTERVAL.load() == 0 {
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    if let Some(caller) = ALLOCATING.get_ptr_mut(thread) {
        // SAFETY: as in `allocation_return`.
        abandon(unsafe { &mut *caller });
        // It was there a moment ago, and nobody else removes it.
        let _ = ALLOCATING.remove(thread);
    }
}

/// A call of the allocator has begun. `old` is the address that it may give back; with `out` it
/// puts the new one there.
#[inline(always)]
fn begin(ctx: &ProbeContext, size: u64, out: u64, old: u64) -> u32 {
    let Some(caller) = caller(bpf_get_current_pid_tgid()) else {
        count(Counter::AllocationThreadsFull);
        return 0;
    };
    // SAFETY: as in `allocation_return`.
    let caller = unsafe { &mut *caller };
    let sp = registers::stack_pointer(ctx);
    if caller.sp != 0 {
        // The same stack pointer is that of a function which ended by jumping into another.
        if sp <= caller.sp && caller.nested < MAX_NESTED {
            caller.nested += 1;
            return 0;
        }
        abandon(caller);
    }
    count(Counter::AllocationCalls);
    caller.sp = sp;
    caller.size = size;
    caller.out = out;
    caller.nested = 0;
    choose(caller, size);
    // Now, not when it returns: by then the address may be another thread's.
    caller.old = if is_live(old) && LIVE.remove(old).is_ok() { old } else { 0 };
    0
}

/// What is known of a thread, which may be new.
#[inline(always)]
fn caller(thread: u64) -> Option<*mut Caller> {
    if let Some(caller) = ALLOCATING.get_ptr_mut(thread) {
        return Some(caller);
    }
    let mut new = Caller {
        sp: 0,
        left: 0,
        behind: 0,
        size: 0,
        out: 0,
        old: 0,
        intervals: 0,
        nested: 0,
        sampled: 0,
    };
    next_interval(&mut new);
    // A failure shows in the lookup that follows.
    let _ = ALLOCATING.insert(thread, new, 0);
    ALLOCATING.get_ptr_mut(thread)
}

/// Decides whether this many bytes are a sample, and what it stands for.
#[inline(always)]
fn choose(caller: &mut Caller, size: u64) {
    caller.intervals = 0;
    caller.sampled = 0;
    if size >= ALLOCATION_INTERVAL.load() {
        caller.sampled = 1;
        return;
    }
    let mut size = size;
    // Less than an interval's bytes touch two intervals at the most.
    for _ in 0..2 {
        if size < caller.left {
            break;
        }
        size -= caller.left;
        caller.sampled = 1;
        caller.intervals += 1;
        next_interval(caller);
    }
    // Where the loop has ended for another reason, the chosen byte was the last one.
    caller.left = caller.left.saturating_sub(size).max(1);
}

/// Chooses a byte of the next interval.
#[inline(always)]
fn next_interval(caller: &mut Caller) {
    let interval = ALLOCATION_INTERVAL.load();
    // SAFETY: no argument.
    let chosen = (u64::from(unsafe { bpf_get_prandom_u32() }) * interval) >> 32;
    caller.left = caller.behind + chosen + 1;
    caller.behind = interval - 1 - chosen;
}

/// The call under way was left without a return.
#[inline(always)]
fn abandon(caller: &mut Caller) {
    caller.sp = 0;
    if caller.sampled != 0 {
        caller.sampled = 0;
        count(Counter::AllocationsTaken);
        count(Counter::AllocationsUnfinished);
    }
    if caller.old != 0 {
        remember(caller.old);
        caller.old = 0;
    }
}

/// A `realloc` that has succeeded gave back what it was given; one that has failed did not.
#[inline(always)]
fn give_back_old(caller: &mut Caller, address: u64) {
    let old = caller.old;
    if old == 0 {
        return;
    }
    caller.old = 0;
    // Of no bytes it is a `free`, and returns what it likes.
    if address != 0 || caller.size == 0 {
        send_free(old);
    } else {
        remember(old);
    }
}

/// Whether this is the address of a sampled allocation.
#[inline(always)]
fn is_live(address: u64) -> bool {
    address != 0 && LIVE.get_ptr(address).is_some()
}

/// Keeps the address of a sampled allocation; whether there was room.
#[inline(always)]
fn remember(address: u64) -> bool {
    LIVE.insert(address, 1, 0).is_ok()
}

/// Sends the record of an allocation, with its stack.
#[inline(always)]
fn send(ctx: &RetProbeContext, address: u64, value: i64) {
    // A process that shares the memory (`vfork`) is not the target.
    let Some(subject) = subject() else {
        return;
    };
    if !remember(address) {
        count(Counter::AllocationsTaken);
        count(Counter::AllocationsMapFull);
        return;
    }
    let report = Report {
        stream: Stream::Allocations,
        kind: RecordKind::Allocation,
        flags: 0,
        value,
        aux: address,
    };
    let found = registers::returned(ctx);
    report.send_with_stacks(ctx.as_ptr(), &subject, &chains::ALLOCATIONS, &found, false, |_| {});
}

/// Sends that a sampled allocation is given back, whoever does that.
#[inline(always)]
fn send_free(address: u64) {
    let ids = bpf_get_current_pid_tgid();
    let subject =
        subject().unwrap_or(Subject { tgid: (ids >> 32) as u32, tid: ids as u32, cgroup_id: 0 });
    let report = Report {
        stream: Stream::Allocations,
        kind: RecordKind::Free,
        flags: 0,
        value: 0,
        aux: address,
    };
    if !report.send_header(&subject) {
        count(Counter::AllocationFreesLost);
    }
}

/// Argument `n` of the function.
#[inline(always)]
fn argument(ctx: &ProbeContext, n: usize) -> u64 {
    ctx.arg(n).unwrap_or(0)
}

/// `count` times `size`. A product larger than the address space is asked for in vain, whatever it
/// is; it is not computed, as that takes more than this processor has.
#[inline(always)]
fn product(count: u64, size: u64) -> u64 {
    let (small, large) = if count < size { (count, size) } else { (size, count) };
    let fits = small < 1 << 16 && large < 1 << 48 || large < 1 << 32;
    if fits {
        small * large
    } else if small == 0 {
        0
    } else {
        u64::MAX
    }
}

/// A word of the process's memory; 0 where it cannot be read.
#[inline(always)]
fn read_user(address: u64) -> u64 {
    let mut word = 0_u64;
    // SAFETY: the word has that many bytes; the helper fails on a bad address.
    let failed = unsafe {
        bpf_probe_read_user((&raw mut word).cast(), size_of::<u64>() as u32, address as *const _)
    };
    if failed == 0 { word } else { 0 }
}
