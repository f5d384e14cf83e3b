//! Bounds that both sides of the kernel border rely on.

/// Frames kept of a user stack. Twice what the kernel keeps: Java and recursion go deeper than 127.
/// One less than a power of two, so that a mask is a bound.
pub const MAX_USER_FRAMES: usize = 255;

/// Frames kept of a kernel stack, and of a user stack that the kernel walks: its own default for
/// `kernel.perf_event_max_stack`. Asking `bpf_get_stack` for more is refused.
pub const MAX_KERNEL_FRAMES: usize = 127;

/// Frames that one program walks before it calls the next. Measured: the verifier's limit of 8,192
/// jumps is reached between 24 and 128.
pub const FRAMES_PER_STEP: usize = 16;

/// A walk is in as many steps as its frames take: with the first and the last program far below the
/// kernel's 33 tail calls.
const _: () = assert!(MAX_USER_FRAMES.div_ceil(FRAMES_PER_STEP) + 2 < 33);

/// Bytes of a task's name, with the terminating NUL (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Default size of the ring buffer in bytes (a power of two). It is drained every
/// [`DRAIN_INTERVAL_MS`], so it must hold what one interval produces: at 250 bytes a record 4 MiB is
/// 64 busy CPUs at 49 Hz for 5 s, or 160 000 memory calls a second; stacks of 255 frames take eight
/// times that.
pub const DEFAULT_RING_BYTES: u32 = 4 << 20;

/// The smallest ring buffer: one page, the kernel's own minimum.
pub const MIN_RING_BYTES: u32 = 4096;

/// How often user space drains the ring buffer, in milliseconds.
pub const DRAIN_INTERVAL_MS: u64 = 100;

/// Cgroups counted at the same time. A Kubernetes node runs at most a few hundred containers;
/// entries of removed cgroups are deleted by user space.
pub const MAX_CGROUPS: u32 = 4096;

/// Cgroup ids whose membership in the target has been decided (least recently used go first, and
/// are decided again).
pub const MAX_VERDICTS: u32 = 8192;

/// Cgroups or processes that a recorder may be pointed at.
pub const MAX_TARGETS: u32 = 256;

/// How far up the cgroup tree a target is looked for. The kernel has no limit of its own;
/// containers nest below ten deep.
pub const MAX_CGROUP_DEPTH: usize = 24;

/// Rows of unwind tables in the kernel, unless the user says otherwise: 32 MiB. libc takes 23
/// thousand, node 277 thousand, LLVM 1.2 million.
pub const DEFAULT_ROWS: u32 = 4 << 20;

/// Pages of unwind tables: 4 GiB of code.
pub const MAX_PAGES: u32 = 1 << 16;

/// Executables that mappings can refer to at the same time; a host with 200 processes maps about
/// 500 different ones.
pub const MAX_EXES: u32 = 8192;

/// Entries of the trie of mappings: one to eight for each executable mapping. 1,000 processes with
/// 20 libraries each need about 80 thousand. The kernel allocates entries as they are added.
pub const MAX_MAPPING_ENTRIES: u32 = 1 << 18;

/// Processes whose mappings are known to the probes.
pub const MAX_PROCESSES: u32 = 1 << 15;

/// Runs of the fault probe in a second on each CPU, about. The kernel's own work for one costs about a
/// third of a fault, so not every fault can have one: it varies how many faults a run stands for so
/// that it comes to this. Few faults are seen one by one, huge pages among them: a CPU cannot fill more
/// of those in a second. Many are not, and since it goes by the clock, no pattern of a program keeps
/// step with it.
pub const FAULT_FREQUENCY: u64 = 16_000;

/// Bytes of memory that one fault sample stands for on average, unless the user says otherwise: what
/// Go's own heap profile has.
pub const DEFAULT_FAULT_INTERVAL: u64 = 512 << 10;

/// Processes whose address spaces the probes remember, the least recently met ones go first. Of one that
/// is forgotten the next call that gives memory back does not count.
pub const MAX_SPACES: u32 = 8192;

/// Shift from pages to bytes: x86-64 has no other page size, and arm64 has this one with most
/// distributions.
pub const PAGE_SHIFT: u32 = 12;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;

/// Pages of a huge page: what one entry of the page table's last level but one covers.
pub const HUGE_PAGES: u64 = 512;

/// Regions of [`FAULT_REGION_BITS`] in which faults have been sampled: 128 GiB of touched addresses.
/// The least recently sampled go first; what is given back in them is then not noticed.
pub const MAX_FAULT_REGIONS: u32 = 1 << 16;

/// Bits of an address within such a region: 2 MiB.
pub const FAULT_REGION_BITS: u32 = 21;

/// Regions that are looked up one by one when memory is given back; a longer range is reported in
/// any case.
pub const MAX_REGIONS_LOOKED_UP: u64 = 16;

/// Memory calls that are recorded one by one on each CPU before any is left out, and how many
/// nanoseconds earn another one: a stack takes about 3 us, so they cost at most 0.6 % of a CPU,
/// and those that are drawn beyond them as much again.
pub const CALL_BURST: u64 = 2048;
/// See [`CALL_BURST`].
pub const CALL_EARNED_NS: u64 = 500_000;

/// Of the calls beyond that, one of so many on average is recorded, and stands for them: so many at least,
/// or of a few more than were earned hardly any would be, and so many at most, or the one would say nothing
/// of the others. At most it is a million calls in a second for as many records as are earned.
pub const CALL_SHARE: u64 = 64;
/// See [`CALL_SHARE`].
pub const MAX_CALL_SHARE: u64 = 512;

/// Calls for at least so many bytes have as many again: a few of them make a profile.
pub const LARGE_CALL_BYTES: u64 = 1 << 20;

/// Threads that are known to have left the CPU: as many as a host with 4 GiB allows by
/// `kernel.threads-max`.
pub const MAX_WAITERS: u32 = 32_768;

/// Waits of a thread that are recorded one by one before any is left out, and how many nanoseconds earn
/// another one: what waits for long does not wait often.
pub const WAIT_BURST: u64 = 64;
/// See [`WAIT_BURST`].
pub const WAIT_EARNED_NS: u64 = 20_000_000;

/// The same for all threads on a CPU together: two stacks take about 6 us, so they cost at most 0.6 % of it.
/// When half of the first are left, only threads that do not wait often may take more.
pub const WAIT_CPU_BURST: u64 = 1024;
/// See [`WAIT_CPU_BURST`].
pub const WAIT_CPU_EARNED_NS: u64 = 1_000_000;

/// CPUs that may have as much each: all of them share a ring buffer, which holds 8,000 records of waits and
/// is emptied ten times in a second. Where there are more, each has less.
pub const WAIT_CPUS: u64 = 4;

/// Where so many times as many waits come as a CPU may record one by one, threads that wait often have none of
/// those: their stacks would cost as much as all that are drawn.
pub const CROWDED_WAITS: u64 = 4;

/// Of the waits beyond that, one of so many is recorded, and stands for them; a power of two.
pub const WAIT_SHARE: u64 = 128;

/// Sampled allocations in use at the same time: at the default interval those of 32 GiB.
pub const MAX_LIVE_ALLOCATIONS: u32 = 1 << 16;

/// Threads of the process whose allocations are recorded.
pub const MAX_ALLOCATING_THREADS: u32 = 8192;

/// Stacks that are being walked at the same time in programs that may be preempted: no more than there are
/// CPUs, and a few whose walk was.
pub const MAX_THREAD_WALKS: u32 = 256;
