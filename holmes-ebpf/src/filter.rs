//! Whether the current task is the target's. Decided before any stack is walked.
//!
//! The cgroup of a task is a pointer chase through structs whose offsets user space read from the
//! running kernel's BTF: task -> css_set -> cgroup -> kernfs node. The node's id is the inode
//! number that user space sees, and its parents are the path upwards, in v1 and v2 alike.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel,
    generated::bpf_get_current_cgroup_id,
};
use holmes_common::{
    counter::Counter,
    globals::{NO_OFFSET, Offsets, TargetMode, UNIFIED_HIERARCHY},
    limits::MAX_CGROUP_DEPTH,
};

use crate::{
    globals::{CGROUP_SUBSYS, OFFSETS, TARGET_MODE},
    maps::{TARGET_CGROUPS, TARGET_PIDS, VERDICTS},
    stats::count,
};

/// The current task, found to be the target's.
#[derive(Clone, Copy)]
pub struct Subject {
    pub tgid: u32,
    pub tid: u32,
    /// 0 where it cannot be read.
    pub cgroup_id: u64,
}

/// The current task if it belongs to the target.
#[inline(always)]
pub fn subject() -> Option<Subject> {
    let ids = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((ids >> 32) as u32, ids as u32);
    let mode = TARGET_MODE.load();
    if mode == TargetMode::Processes as u32 && TARGET_PIDS.get_ptr(tgid).is_none() {
        return None;
    }
    // SAFETY: no argument, always allowed in a tracing program.
    let node = cgroup_node(unsafe { bpf_get_current_task() });
    let cgroup_id = node_id(node);
    if mode == TargetMode::Cgroups as u32 && !in_target(node, cgroup_id) {
        return None;
    }
    Some(Subject { tgid, tid, cgroup_id })
}

/// The current task's `mm`: `Some(0)` for a kernel thread, `None` where the layout is not known.
#[inline(always)]
pub fn current_mm(task_mm: u32) -> Option<u64> {
    if task_mm == NO_OFFSET {
        return None;
    }
    // SAFETY: no argument, always allowed in a tracing program.
    Some(pointer(unsafe { bpf_get_current_task() }, task_mm))
}

/// A word of the current `task_struct`; 0 where it cannot be read.
#[inline(always)]
pub fn current_word(offset: u32) -> u64 {
    // SAFETY: no argument, always allowed in a tracing program.
    pointer(unsafe { bpf_get_current_task() }, offset)
}

/// Reads the word at `offset` of the struct at `base`; 0 if either is unknown or unreadable.
#[inline(always)]
pub fn pointer(base: u64, offset: u32) -> u64 {
    if base == 0 || offset == NO_OFFSET {
        return 0;
    }
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const u64) }.unwrap_or(0)
}

/// The inode number of the cgroup of a task, which need not be the current one; 0 if it cannot be
/// read.
#[inline(always)]
pub fn cgroup_of(task: u64) -> u64 {
    pointer(cgroup_node(task), OFFSETS.load().kn_id)
}

/// The kernfs node of a task's cgroup in the watched hierarchy; 0 if it cannot be read.
#[inline(always)]
fn cgroup_node(task: u64) -> u64 {
    let Offsets { task_cgroups, css_set_subsys, css_set_dfl_cgrp, css_cgroup, cgroup_kn, .. } =
        OFFSETS.load();
    let css_set = pointer(task, task_cgroups);
    let subsystem = CGROUP_SUBSYS.load();
    let cgroup = if subsystem == UNIFIED_HIERARCHY {
        pointer(css_set, css_set_dfl_cgrp)
    } else {
        // `subsys` is an array of pointers; user space made sure that the index is within it.
        let state = if css_set_subsys == NO_OFFSET {
            0
        } else {
            pointer(css_set, css_set_subsys + subsystem * 8)
        };
        pointer(state, css_cgroup)
    };
    pointer(cgroup, cgroup_kn)
}

/// The inode number of a node; for node 0 what the kernel says of the unified hierarchy, or 0.
#[inline(always)]
fn node_id(node: u64) -> u64 {
    let id = pointer(node, OFFSETS.load().kn_id);
    if id != 0 {
        return id;
    }
    if CGROUP_SUBSYS.load() == UNIFIED_HIERARCHY {
        // SAFETY: no argument, always allowed in a tracing program.
        return unsafe { bpf_get_current_cgroup_id() };
    }
    count(Counter::CgroupUnreadable);
    0
}

/// Whether the cgroup is a target or a descendant of one.
#[inline(always)]
fn in_target(node: u64, cgroup_id: u64) -> bool {
    // SAFETY: verdicts are single bytes, written whole.
    if let Some(verdict) = unsafe { VERDICTS.get(cgroup_id) } {
        return *verdict != 0;
    }
    let verdict = climb(node, cgroup_id);
    if VERDICTS.insert(cgroup_id, u8::from(verdict), 0).is_err() {
        count(Counter::VerdictMapFull);
    }
    verdict
}

/// Looks for a target from the cgroup upwards. A function of its own, so that the loop is verified
/// once and not in every program's every path.
#[inline(never)]
fn climb(node: u64, cgroup_id: u64) -> bool {
    let offsets = OFFSETS.load();
    let mut node = node;
    let mut id = cgroup_id;
    for _ in 0..MAX_CGROUP_DEPTH {
        if TARGET_CGROUPS.get_ptr(id).is_some() {
            return true;
        }
        node = pointer(node, offsets.kn_parent);
        if node == 0 {
            return false;
        }
        id = pointer(node, offsets.kn_id);
    }
    false
}
