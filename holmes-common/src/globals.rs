//! What user space tells the probes before they are loaded: read-only globals, written into the
//! object by the loader. The probes treat them as constants, so the verifier prunes what is off.

/// Which tasks the probes look at. The value of the global `TARGET_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TargetMode {
    /// Every task of the host.
    Host = 0,
    /// Tasks of the cgroups in the map `TARGET_CGROUPS`, and of their descendants.
    Cgroups = 1,
    /// Tasks of the processes (thread groups) in the map `TARGET_PIDS`.
    Processes = 2,
}

/// Offset that means "this kernel does not have the field": the probe does without.
pub const NO_OFFSET: u32 = u32::MAX;

/// Value of the global `CGROUP_SUBSYS` for the unified (v2) hierarchy. Other values are indexes
/// into `css_set.subsys`, that is a v1 controller's hierarchy.
pub const UNIFIED_HIERARCHY: u32 = u32::MAX;

/// Struct offsets, read from the running kernel's BTF and written into the global `OFFSETS`.
/// In bytes from the struct's start; [`NO_OFFSET`] where the kernel has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `task_struct.pid`: the thread's id.
    pub task_pid: u32,
    /// `task_struct.tgid`: the process's id.
    pub task_tgid: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `task_struct.stack`: where the task's kernel stack begins, on kernels without
    /// `bpf_task_pt_regs`; otherwise not needed.
    pub task_stack: u32,
    /// `task_struct.thread_info.status`: on x86-64 whether the task is in a 32-bit system call, as
    /// one of its bits.
    pub task_status: u32,
    /// `task_struct.__state`, called `state` before 5.14: what the task waits as; 0 if it runs.
    pub task_state: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `task_struct.comm`: the task's name.
    pub task_comm: u32,
    /// `task_struct.sched_info.last_arrival`: when the task got a CPU last, by the scheduler's clock.
    pub task_last_arrival: u32,
    /// `task_struct.se.sum_exec_runtime`: nanoseconds that the task has had a CPU.
    pub task_run_time: u32,
    /// `task_struct.se.prev_sum_exec_runtime`: the same when it got one last.
    pub task_run_before: u32,
    /// `task_struct.cgroups`: the task's `css_set`.
    pub task_cgroups: u32,
    /// `task_struct.signal`: what the threads of a process share.
    pub task_signal: u32,
    /// `signal_struct.live`: threads of the process that have not ended.
    pub signal_live: u32,
    /// The number of anonymous pages in `mm_struct.rss_stat`, a word.
    pub mm_anon_pages: u32,
    /// `mm_struct.brk`: the end of the heap.
    pub mm_brk: u32,
    /// `mm_struct.total_vm`: mapped pages.
    pub mm_total_vm: u32,
    /// `mm_struct.stack_vm`: those of them that are stacks which grow by themselves.
    pub mm_stack_vm: u32,
    /// `css_set.subsys`: an array of pointers, one for each v1 controller.
    pub css_set_subsys: u32,
    /// `css_set.dfl_cgrp`: the cgroup in the unified hierarchy.
    pub css_set_dfl_cgrp: u32,
    /// `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// `cgroup.kn`: the cgroup's directory.
    pub cgroup_kn: u32,
    /// `kernfs_node.parent`, called `__parent` since 6.15.
    pub kn_parent: u32,
    /// `kernfs_node.id`: the inode number that user space sees.
    pub kn_id: u32,
}

impl Offsets {
    /// No field is known: what a kernel without BTF leaves the probes with.
    pub const UNKNOWN: Self = Self {
        task_pid: NO_OFFSET,
        task_tgid: NO_OFFSET,
        task_mm: NO_OFFSET,
        task_stack: NO_OFFSET,
        task_status: NO_OFFSET,
        task_state: NO_OFFSET,
        task_flags: NO_OFFSET,
        task_comm: NO_OFFSET,
        task_last_arrival: NO_OFFSET,
        task_run_time: NO_OFFSET,
        task_run_before: NO_OFFSET,
        task_cgroups: NO_OFFSET,
        task_signal: NO_OFFSET,
        signal_live: NO_OFFSET,
        mm_anon_pages: NO_OFFSET,
        mm_brk: NO_OFFSET,
        mm_total_vm: NO_OFFSET,
        mm_stack_vm: NO_OFFSET,
        css_set_subsys: NO_OFFSET,
        css_set_dfl_cgrp: NO_OFFSET,
        css_cgroup: NO_OFFSET,
        cgroup_kn: NO_OFFSET,
        kn_parent: NO_OFFSET,
        kn_id: NO_OFFSET,
    };
}

const _: () = assert!(size_of::<Offsets>() == 24 * 4, "Offsets has padding");
