//! Questions that only the kernel can answer, asked by system calls: tiny maps and disabled events
//! are made and closed at once.
//!
//! Must not: interpret the answers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `bpf_cmd`, `bpf_map_type`, `perf_type_id`, `perf_hw_id` and `perf_sw_ids` of the kernel's
/// `uapi/linux/bpf.h` and `uapi/linux/perf_event.h`: fixed for ever, absent from `libc`.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_HW_CPU_CYCLES: u64 = 0;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
/// Bit 0 of `perf_event_attr`'s flags: the event does not count.
const PERF_DISABLED: u64 = 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const PERF_CLOEXEC: libc::c_ulong = 1 << 3;

/// The kernel's answers: nothing, or the error number with which it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// A BPF map can be made.
    pub bpf_map: Result<(), i32>,
    /// A BPF ring buffer can be made.
    pub ring_buffer: Result<(), i32>,
    /// A CPU can be sampled by its software clock.
    pub cpu_clock: Result<(), i32>,
    /// A CPU can be sampled by its cycle counter.
    pub cycles: Result<(), i32>,
}

impl Answers {
    /// Every answer is yes.
    pub const YES: Self =
        Self { bpf_map: Ok(()), ring_buffer: Ok(()), cpu_clock: Ok(()), cycles: Ok(()) };

    /// Asks the running kernel.
    pub fn ask() -> Self {
        // SAFETY: sysconf only reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = u32::try_from(page).unwrap_or(4096);
        Self {
            bpf_map: create_map([BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0]),
            ring_buffer: create_map([BPF_MAP_TYPE_RINGBUF, 0, 0, page, 0]),
            cpu_clock: open_event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK),
            cycles: open_event(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES),
        }
    }
}

/// Makes a map of `bpf_attr`'s first five fields: type, key size, value size, entries, flags.
fn create_map(attributes: [u32; 5]) -> Result<(), i32> {
    // SAFETY: bpf(2) reads exactly the given number of bytes of the array, and takes the rest of
    // its own structure for zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes) as libc::c_long,
        )
    };
    close(result)
}

/// `perf_event_attr` as of its first version (`PERF_ATTR_SIZE_VER0`), which every kernel takes.
#[derive(Default)]
#[repr(C)]
struct EventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

const _: () = assert!(size_of::<EventAttributes>() == 64, "PERF_ATTR_SIZE_VER0");

/// Opens an event for all tasks of one CPU, as the sampler does for each.
fn open_event(kind: u32, config: u64) -> Result<(), i32> {
    let attributes = EventAttributes {
        kind,
        size: size_of::<EventAttributes>() as u32,
        config,
        // Never reached: the event stays disabled.
        sample_period: 1 << 40,
        flags: PERF_DISABLED,
        ..EventAttributes::default()
    };
    // SAFETY: sched_getcpu takes nothing and writes nothing. A CPU that this thread runs on is
    // online, which CPU 0 need not be.
    let cpu = unsafe { libc::sched_getcpu() }.max(0);
    let (every_task, no_group): (libc::c_int, libc::c_int) = (-1, -1);
    // SAFETY: perf_event_open(2) reads as many bytes as `size` says, that is the whole structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            every_task,
            cpu,
            no_group,
            PERF_CLOEXEC,
        )
    };
    close(result)
}

/// Closes the descriptor that a system call returned, or says why there is none.
fn close(result: libc::c_long) -> Result<(), i32> {
    match RawFd::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
    }
}
