//! What user space set before loading. Read-only afterwards.

use aya_ebpf::Global;
use holmes_common::{
    globals::{Offsets, UNIFIED_HIERARCHY},
    limits::{DEFAULT_FAULT_INTERVAL, WAIT_CPU_BURST, WAIT_CPU_EARNED_NS},
};

/// A `TargetMode`, as a number.
#[unsafe(no_mangle)]
pub static TARGET_MODE: Global<u32> = Global::new(0);

/// Which hierarchy a task's cgroup is read from: `UNIFIED_HIERARCHY`, or an index into
/// `css_set.subsys`.
#[unsafe(no_mangle)]
pub static CGROUP_SUBSYS: Global<u32> = Global::new(UNIFIED_HIERARCHY);

/// The recorder's own process id, so that its records can be marked.
#[unsafe(no_mangle)]
pub static RECORDER_TGID: Global<u32> = Global::new(0);

/// Struct offsets of the running kernel.
#[unsafe(no_mangle)]
pub static OFFSETS: Global<Offsets> = Global::new(Offsets::UNKNOWN);

/// One of [`OFFSETS`], by the name of its field. Only that one is loaded: of the whole struct the
/// compiler loads every word, each time.
macro_rules! offset {
    ($field:ident) => {
        $crate::globals::offset_at(core::mem::offset_of!(holmes_common::globals::Offsets, $field))
    };
}
pub(crate) use offset;

/// The offset that is so many bytes into [`OFFSETS`].
#[inline(always)]
pub fn offset_at(at: usize) -> u32 {
    // SAFETY: `Global` has nothing but its value, and `at` is a field's place in it. Volatile as its own
    // `load`: the value is user space's.
    unsafe { (&raw const OFFSETS).cast::<u8>().add(at).cast::<u32>().read_volatile() }
}

/// Bytes between two fault samples on average.
#[unsafe(no_mangle)]
pub static FAULT_INTERVAL: Global<u64> = Global::new(DEFAULT_FAULT_INTERVAL);

/// Waits that a CPU may record one by one before any is left out; see `WAIT_CPU_BURST`.
#[unsafe(no_mangle)]
pub static WAIT_BURST_OF_CPU: Global<u64> = Global::new(WAIT_CPU_BURST);

/// Nanoseconds that earn it another one; see `WAIT_CPU_EARNED_NS`.
#[unsafe(no_mangle)]
pub static WAIT_EARNED_NS_OF_CPU: Global<u64> = Global::new(WAIT_CPU_EARNED_NS);

/// Pages by which the kernel's count of a process's anonymous pages may jump without a huge one: what
/// it counts on each CPU before it adds that up, and half a huge page.
#[unsafe(no_mangle)]
pub static COUNT_NOISE: Global<u32> = Global::new(256);

/// Whether the kernel has the helper `bpf_task_pt_regs` (5.15). Where it is 0 the verifier never
/// comes to the call.
#[unsafe(no_mangle)]
pub static HAS_TASK_PT_REGS: Global<u32> = Global::new(0);

/// Whether what is reached from the current task can be read by plain loads: only where
/// [`HAS_TASK_PT_REGS`] is set, and not where the verifier has refused it.
#[unsafe(no_mangle)]
pub static PLAIN_LOADS: Global<u32> = Global::new(0);

/// The same for the counts of a process's pages: since 6.2, where each is a struct of its own. Before, they
/// are in an array of a type that verifiers do not walk.
#[unsafe(no_mangle)]
pub static PLAIN_COUNTS: Global<u32> = Global::new(0);

/// Whether samples are preceded by a copy of their stack's memory.
#[unsafe(no_mangle)]
pub static COPY_STACKS: Global<u32> = Global::new(0);

/// Bits of a user address that are a pointer authentication code on arm64; 0 elsewhere.
#[unsafe(no_mangle)]
pub static POINTER_CODE_MASK: Global<u64> = Global::new(0);

/// Bytes allocated for each sample; 0 where allocations are not recorded.
#[unsafe(no_mangle)]
pub static ALLOCATION_INTERVAL: Global<u64> = Global::new(0);
