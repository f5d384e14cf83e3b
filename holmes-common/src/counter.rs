//! Everything that is counted in the kernel: what was taken, and every loss by its cause.
//!
//! For each stream, taken = records delivered + losses, always. The counters live in one per-CPU
//! array indexed by [`Counter`]; the totals of each cgroup in a hash of [`CgroupTotals`].

use crate::unwind::WalkEnd;

/// The streams whose records share the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// CPU samples.
    Samples,
    /// mmap, brk and mremap that gained address space.
    Memory,
    /// Task creation, exec and exit, and who is killed for memory.
    Tasks,
    /// Page faults.
    Faults,
    /// Memory given back or moved, in which faults had been sampled.
    Releases,
    /// Sampled calls of an allocator. Only taken while allocations are recorded.
    Allocations,
    /// Threads that leave the CPU.
    Waits,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An index into the probes' counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter, in the order of the array.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name used in metrics and incidents: `snake_case`, stable.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// CPU samples of the target that a probe began to take.
    SamplesTaken = "samples_taken",
    /// CPU samples lost because the ring buffer was full.
    SamplesRingFull = "samples_ring_full",
    /// CPU samples lost because the probe had no scratch memory.
    SamplesNoScratch = "samples_no_scratch",
    /// CPU samples lost because the program that continues them could not be called.
    SamplesNoChain = "samples_no_chain",
    /// Memory calls of the target that a probe began to record.
    MemoryTaken = "memory_taken",
    /// Memory records lost because the ring buffer was full.
    MemoryRingFull = "memory_ring_full",
    /// Memory records lost because the probe had no scratch memory.
    MemoryNoScratch = "memory_no_scratch",
    /// Memory records lost because the program that continues them could not be called.
    MemoryNoChain = "memory_no_chain",
    /// Task events of the target that a probe began to record.
    TasksTaken = "tasks_taken",
    /// Task records lost because the ring buffer was full.
    TasksRingFull = "tasks_ring_full",
    /// Task records lost because the probe had no scratch memory.
    TasksNoScratch = "tasks_no_scratch",
    /// Task records lost because the program that continues them could not be called.
    TasksNoChain = "tasks_no_chain",
    /// Page faults of the target that were chosen as samples.
    FaultsTaken = "faults_taken",
    /// Fault samples lost because the ring buffer was full.
    FaultsRingFull = "faults_ring_full",
    /// Fault samples lost because the probe had no scratch memory.
    FaultsNoScratch = "faults_no_scratch",
    /// Fault samples lost because the program that continues them could not be called.
    FaultsNoChain = "faults_no_chain",
    /// Times that the target gave back or moved memory in which faults had been sampled.
    ReleasesTaken = "releases_taken",
    /// Such records lost because the ring buffer was full: what was given back counts as in use
    /// until the next look at the process's pages.
    ReleasesRingFull = "releases_ring_full",
    /// Such records lost because the probe had no scratch memory.
    ReleasesNoScratch = "releases_no_scratch",
    /// Such records lost between two programs: they have no chain, so none.
    ReleasesNoChain = "releases_no_chain",
    /// Waits of the target whose beginning a probe began to record.
    WaitsTaken = "waits_taken",
    /// Waits lost because the ring buffer was full.
    WaitsRingFull = "waits_ring_full",
    /// Waits lost because the probe had no scratch memory.
    WaitsNoScratch = "waits_no_scratch",
    /// Waits lost because the program that continues them could not be called.
    WaitsNoChain = "waits_no_chain",
    /// Ends of waits lost because the ring buffer was full: how long they were is not known.
    WaitEndsLost = "wait_ends_lost",
    /// Waits that could not be considered: there was no room for the thread.
    WaitersFull = "waiters_full",
    /// Records without a user stack.
    WalkNotWalked = "walk_not_walked",
    /// User stacks that are whole.
    WalkOutermost = "walk_outermost",
    /// User stacks that ended so, see `WalkEnd::UnknownProcess`.
    WalkUnknownProcess = "walk_unknown_process",
    /// User stacks that ended so, see `WalkEnd::Unmapped`.
    WalkUnmapped = "walk_unmapped",
    /// User stacks that ended so, see `WalkEnd::NoTable`.
    WalkNoTable = "walk_no_table",
    /// User stacks that ended so, see `WalkEnd::NoFramePointer`.
    WalkNoFramePointer = "walk_no_frame_pointer",
    /// User stacks that ended so, see `WalkEnd::UnsupportedRule`.
    WalkUnsupportedRule = "walk_unsupported_rule",
    /// User stacks that ended so, see `WalkEnd::LostBasePointer`.
    WalkLostBasePointer = "walk_lost_base_pointer",
    /// User stacks that ended so, see `WalkEnd::NotAbove`.
    WalkNotAbove = "walk_not_above",
    /// User stacks that ended so, see `WalkEnd::Unreadable`.
    WalkUnreadable = "walk_unreadable",
    /// User stacks that ended so, see `WalkEnd::FrameLimit`.
    WalkFrameLimit = "walk_frame_limit",
    /// User stacks that ended so, see `WalkEnd::NoRegisters`.
    WalkNoRegisters = "walk_no_registers",
    /// User stacks that ended so, see `WalkEnd::Compat`.
    WalkCompat = "walk_compat",
    /// Copies of stacks that a full ring buffer had no room for (the samples are not lost by that).
    CopiesRingFull = "copies_ring_full",
    /// Kernel stacks that could not be walked (the record is delivered without).
    KernelStackFailed = "kernel_stack_failed",
    /// Kernel stacks cut at the frame limit.
    KernelStackTruncated = "kernel_stack_truncated",
    /// A cgroup's totals had no room in their map: its events are in the records, not in the totals.
    CgroupTotalsFull = "cgroup_totals_full",
    /// A cgroup's membership could not be remembered: decided again next time.
    VerdictMapFull = "verdict_map_full",
    /// A call gave memory back, or moved the heap's end, of a process whose address space was not known
    /// before: how much is not counted.
    SpaceUnknown = "space_unknown",
    /// The cgroup of a task could not be read.
    CgroupUnreadable = "cgroup_unreadable",
    /// Sampled allocations that were made, or whose end was not seen.
    AllocationsTaken = "allocations_taken",
    /// Sampled allocations lost because the ring buffer was full.
    AllocationsRingFull = "allocations_ring_full",
    /// Sampled allocations lost because there was no scratch memory.
    AllocationsNoScratch = "allocations_no_scratch",
    /// Sampled allocations lost because the program that continues them could not be called.
    AllocationsNoChain = "allocations_no_chain",
    /// Sampled allocations lost because their pointer could not be remembered: too many are in use.
    AllocationsMapFull = "allocations_map_full",
    /// Sampled allocations lost because the call began and was never seen to return.
    AllocationsUnfinished = "allocations_unfinished",
    /// Calls that allocate, sampled or not. Those that one makes of another are one.
    AllocationCalls = "allocation_calls",
    /// Calls that allocate by threads that there was no room for: they were not considered.
    AllocationThreadsFull = "allocation_threads_full",
    /// Records of a sampled allocation's end lost because the ring buffer was full: it will seem to
    /// be in use.
    AllocationFreesLost = "allocation_frees_lost",
}

/// Number of counters: the array's length.
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// The counter of walks that ended so.
    pub const fn of_walk(end: WalkEnd) -> Self {
        Self::ALL[Self::WalkNotWalked as usize + end as usize]
    }
}

const _: () = assert!(Counter::WalkCompat as usize == Counter::of_walk(WalkEnd::Compat) as usize);

impl Stream {
    /// Every stream.
    pub const ALL: [Self; 7] = [
        Self::Samples,
        Self::Memory,
        Self::Tasks,
        Self::Faults,
        Self::Releases,
        Self::Allocations,
        Self::Waits,
    ];

    /// The name used in metrics and incidents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Memory => "memory",
            Self::Tasks => "tasks",
            Self::Faults => "faults",
            Self::Releases => "releases",
            Self::Allocations => "allocations",
            Self::Waits => "waits",
        }
    }

    /// The counter of what was taken.
    pub const fn taken(self) -> Counter {
        match self {
            Self::Samples => Counter::SamplesTaken,
            Self::Memory => Counter::MemoryTaken,
            Self::Tasks => Counter::TasksTaken,
            Self::Faults => Counter::FaultsTaken,
            Self::Releases => Counter::ReleasesTaken,
            Self::Allocations => Counter::AllocationsTaken,
            Self::Waits => Counter::WaitsTaken,
        }
    }

    /// The counter of what a full ring buffer lost.
    pub const fn ring_full(self) -> Counter {
        match self {
            Self::Samples => Counter::SamplesRingFull,
            Self::Memory => Counter::MemoryRingFull,
            Self::Tasks => Counter::TasksRingFull,
            Self::Faults => Counter::FaultsRingFull,
            Self::Releases => Counter::ReleasesRingFull,
            Self::Allocations => Counter::AllocationsRingFull,
            Self::Waits => Counter::WaitsRingFull,
        }
    }

    /// The counter of what was lost between two programs of a chain.
    pub const fn no_chain(self) -> Counter {
        match self {
            Self::Samples => Counter::SamplesNoChain,
            Self::Memory => Counter::MemoryNoChain,
            Self::Tasks => Counter::TasksNoChain,
            Self::Faults => Counter::FaultsNoChain,
            Self::Releases => Counter::ReleasesNoChain,
            Self::Allocations => Counter::AllocationsNoChain,
            Self::Waits => Counter::WaitsNoChain,
        }
    }

    /// The counter of what missing scratch memory lost.
    pub const fn no_scratch(self) -> Counter {
        match self {
            Self::Samples => Counter::SamplesNoScratch,
            Self::Memory => Counter::MemoryNoScratch,
            Self::Tasks => Counter::TasksNoScratch,
            Self::Faults => Counter::FaultsNoScratch,
            Self::Releases => Counter::ReleasesNoScratch,
            Self::Allocations => Counter::AllocationsNoScratch,
            Self::Waits => Counter::WaitsNoScratch,
        }
    }
}

/// What is counted for each cgroup (its own tasks, without descendants), since the probes began.
/// Exact: counted where it happens, whether or not the record gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupTotals {
    /// CPU samples taken.
    pub samples: u64,
    /// CPU samples lost in the kernel, whatever the cause.
    pub samples_lost: u64,
    /// Successful `mmap` calls.
    pub mmap_calls: u64,
    /// Bytes asked for in them.
    pub mmap_bytes: u64,
    /// Successful `munmap` calls.
    pub munmap_calls: u64,
    /// Bytes unmapped by them.
    pub munmap_bytes: u64,
    /// `brk` calls that moved the heap's end.
    pub brk_calls: u64,
    /// Bytes by which the heap grew.
    pub brk_grown_bytes: u64,
    /// Bytes by which the heap shrank.
    pub brk_shrunk_bytes: u64,
    /// Successful `mremap` calls.
    pub mremap_calls: u64,
    /// Bytes by which mappings grew in them.
    pub mremap_grown_bytes: u64,
    /// Bytes by which mappings shrank in them.
    pub mremap_shrunk_bytes: u64,
    /// Threads created.
    pub threads_created: u64,
    /// Processes created.
    pub processes_created: u64,
    /// Programs executed.
    pub execs: u64,
    /// Threads ended (processes' first threads as well).
    pub exits: u64,
}

const _: () = assert!(size_of::<CgroupTotals>() == 16 * 8, "CgroupTotals has padding");
