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

/// Threads that may be inside a memory system call at the same time. They take microseconds, or
/// wait for the process's memory lock: at most the threads of a few processes.
pub const MAX_PAIRS: u32 = 8192;

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
