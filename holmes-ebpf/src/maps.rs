//! Every map: who writes it, who reads it, what bounds it.
//!
//! Must not hold code. User space finds the maps by these names.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use holmes_common::{
    counter::{COUNTERS, CgroupTotals},
    limits::{
        DEFAULT_RING_BYTES, DEFAULT_ROWS, MAX_ALLOCATING_THREADS, MAX_CGROUPS, MAX_EXES,
        MAX_FAULT_REGIONS, MAX_LIVE_ALLOCATIONS, MAX_MAPPING_ENTRIES, MAX_PAGES, MAX_PROCESSES,
        MAX_SPACES, MAX_TARGETS, MAX_THREAD_WALKS, MAX_VERDICTS, MAX_WAITERS,
    },
    unwind::{Exe, Mapping, MappingKey, Page, Row},
};

use crate::{
    allocations::Caller,
    blocked::BlockedScratch,
    call_shares::CallShares,
    faults::FaultState,
    record::Scratch,
    spaces::Space,
    unwind::{CHAIN_LEN, copy::CopyRoom},
    wait_shares::WaitShares,
    waits::Waiter,
};

/// Records of all streams. Written by every probe, drained by user space every
/// `DRAIN_INTERVAL_MS`. User space sets the size.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(DEFAULT_RING_BYTES, 0);

/// Where a record is put together; see [`crate::record::Slot`] for who owns which entry. Not
/// visible to user space.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(Slot::COUNT, 0);

/// When user space was woken last for an unknown process, on each CPU: `CLOCK_MONOTONIC` in nanoseconds. Not
/// visible to user space.
#[map]
pub static WOKEN_AT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Where copies of stacks are put together, of samples alone. Not visible to user space.
#[map]
pub static COPIES: PerCpuArray<CopyRoom> = PerCpuArray::with_max_entries(1, 0);

/// Counters by `Counter`. Written by every probe, summed over CPUs by user space.
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Totals of each cgroup by its id. Written by every probe; user space reads them, and deletes
/// those of removed cgroups.
#[map]
pub static CGROUP_TOTALS: HashMap<u64, CgroupTotals> = HashMap::with_max_entries(MAX_CGROUPS, 0);

/// Ids of the target cgroups. Written by user space before the probes attach.
#[map]
pub static TARGET_CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Process ids of the target. Written by user space before the probes attach.
#[map]
pub static TARGET_PIDS: HashMap<u32, u8> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Whether a cgroup lies within a target, by id. A cgroup never gets another parent and an id is
/// never given twice, so a verdict holds for ever. Written and read by the filter.
#[map]
pub static VERDICTS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(MAX_VERDICTS, 0);

/// What each process's address space was when a probe met it last, by process id. Not visible to user
/// space.
#[map]
pub static SPACES: LruHashMap<u32, Space> = LruHashMap::with_max_entries(MAX_SPACES, 0);

/// Which memory calls are recorded, on each CPU. Not visible to user space.
#[map]
pub static CALL_SHARES: PerCpuArray<CallShares> = PerCpuArray::with_max_entries(1, 0);

/// Threads that have left the CPU, by the address of their task, which is at hand where the CPU changes hands;
/// removed when they end. Who waits for long is touched least: so none makes room for another. Not visible to
/// user space.
#[map]
pub static WAITERS: HashMap<u64, Waiter> = HashMap::with_max_entries(MAX_WAITERS, 0);

/// Which waits are recorded, on each CPU. Not visible to user space.
#[map]
pub static WAIT_SHARES: PerCpuArray<WaitShares> = PerCpuArray::with_max_entries(1, 0);

/// Where the record of a thread that sleeps is put together. Not visible to user space.
#[map]
pub static BLOCKED_SCRATCH: PerCpuArray<BlockedScratch> = PerCpuArray::with_max_entries(1, 0);

/// How far each CPU is from its next fault sample. Not visible to user space.
#[map]
pub static FAULT_STATES: PerCpuArray<FaultState> = PerCpuArray::with_max_entries(1, 0);

/// Regions of processes in which faults have been sampled. Written by the fault probe, read where
/// memory is given back, so that only what matters is reported.
#[map]
pub static SAMPLED_REGIONS: LruHashMap<u64, u8> =
    LruHashMap::with_max_entries(MAX_FAULT_REGIONS, 0);

/// Rows of unwind tables, each table's in one piece. Written by user space through a mapping, read
/// by the unwinder; user space sets the size.
#[map]
pub static ROWS: Array<Row> = Array::with_max_entries(DEFAULT_ROWS, BPF_F_MMAPABLE);

/// Where the rows of each page are, each table's in one piece. Written and read as [`ROWS`].
#[map]
pub static PAGES: Array<Page> = Array::with_max_entries(MAX_PAGES, BPF_F_MMAPABLE);

/// Where the pages of each executable are. Written by user space through a mapping, but for
/// `last_used`, which the unwinder writes.
#[map]
pub static EXES: Array<Exe> = Array::with_max_entries(MAX_EXES, BPF_F_MMAPABLE);

/// The executable mappings of processes. Written by user space, read by the unwinder.
#[map]
pub static MAPPINGS: LpmTrie<MappingKey, Mapping> =
    LpmTrie::with_max_entries(MAX_MAPPING_ENTRIES, 0);

/// Processes whose mappings are all there. Written by user space, read when a walk begins.
#[map]
pub static PROCESSES: HashMap<u32, u8> = HashMap::with_max_entries(MAX_PROCESSES, 0);

/// The programs that continue a CPU sample. Written by user space before the probes attach.
#[map]
pub static SAMPLE_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The programs that continue a fault sample. Written as [`SAMPLE_CHAIN`].
#[map]
pub static FAULT_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The programs that continue a new task's record. Written as [`SAMPLE_CHAIN`].
#[map]
pub static TASK_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The programs that continue a memory call's record. Written as [`SAMPLE_CHAIN`].
#[map]
pub static CALL_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The same where the call was met at its function's end. Written as [`SAMPLE_CHAIN`].
#[map]
pub static CALL_END_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The same for mremap: to the kernel's types its function is another one, and since 6.12, and later
/// releases of older ones, a chain has programs of one such type. Written as [`SAMPLE_CHAIN`].
#[map]
pub static MREMAP_END_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The programs that continue a wait's record. Written as [`SAMPLE_CHAIN`].
#[map]
pub static WAIT_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// The programs that continue an allocation's record. Written as [`SAMPLE_CHAIN`].
#[map]
pub static ALLOCATION_CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_LEN, 0);

/// What is known of each thread that allocates, by `tgid << 32 | tid`. Written by the thread's own
/// calls, removed when it ends. This map and the next two have one entry where allocations are not
/// recorded.
#[map]
pub static ALLOCATING: HashMap<u64, Caller> = HashMap::with_max_entries(MAX_ALLOCATING_THREADS, 0);

/// Addresses of the sampled allocations in use. Added when one is made, removed when it is given
/// back.
#[map]
pub static LIVE: HashMap<u64, u8> = HashMap::with_max_entries(MAX_LIVE_ALLOCATIONS, 0);

/// Where records are put together whose programs the kernel may preempt, to run another thread's on the
/// same CPU: those on functions of the kernel, and since 6.0 those on probes in user space. By
/// `tgid << 32 | tid`, for as long as it takes.
#[map]
pub static THREAD_SCRATCH: HashMap<u64, Scratch> = HashMap::with_max_entries(MAX_THREAD_WALKS, 0);

/// What a new entry of [`THREAD_SCRATCH`] begins with. Never written.
#[map]
pub static EMPTY_SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// Owners of the entries of [`SCRATCH`].
///
/// A program never interrupts itself on one CPU: the kernel skips such a run and counts it in the
/// program's `recursion_misses`. But a sample can interrupt any other program, so each program has
/// an entry of its own, or each chain of programs.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Slot {
    Sample,
    Call,
    NewTask,
    Fault,
    Wait,
    /// Not in [`SCRATCH`]: the thread's entry of [`THREAD_SCRATCH`].
    Thread = u32::MAX,
}

impl Slot {
    /// Number of slots: the length of [`SCRATCH`].
    pub const COUNT: u32 = Self::Wait as u32 + 1;

    /// Whether each thread has an entry of its own.
    #[inline(always)]
    pub fn is_of_thread(self) -> bool {
        self as u32 == Self::Thread as u32
    }
}
