//! What user space set before loading. Read-only afterwards.

use aya_ebpf::Global;
use holmes_common::globals::{Offsets, SyscallLayout, UNIFIED_HIERARCHY};

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

/// Where system-call tracepoints keep their values.
#[unsafe(no_mangle)]
pub static SYSCALL_LAYOUT: Global<SyscallLayout> = Global::new(SyscallLayout::USUAL);
