//! Whether the current task is the target's. Decided before any stack is walked.
//!
//! The cgroup of a task is a pointer chase through structs whose offsets user space read from the
//! running kernel's BTF: task -> css_set -> cgroup -> kernfs node. The node's id is the inode
//! number that user space sees, and its parents are the path upwards, in v1 and v2 alike.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_cgroup_id};
use holmes_common::{
    counter::Counter,
    globals::{NO_OFFSET, TargetMode, UNIFIED_HIERARCHY},
    limits::MAX_CGROUP_DEPTH,
};

use crate::{
    globals::{CGROUP_SUBSYS, TARGET_MODE, offset},
    maps::{TARGET_CGROUPS, TARGET_PIDS, VERDICTS},
    stats::count,
    task::{self, follow, id_at, read},
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
    let node = cgroup_node(task::current(), follow);
    let cgroup_id = node_id(node);
    judge(mode, tgid, tid, node, cgroup_id)
}

/// The same of another task.
#[inline(always)]
pub fn subject_of(task: u64) -> Option<Subject> {
    let (tgid, tid) = (id_at(task, offset!(task_tgid)), id_at(task, offset!(task_pid)));
    let mode = TARGET_MODE.load();
    if mode == TargetMode::Processes as u32 && TARGET_PIDS.get_ptr(tgid).is_none() {
        return None;
    }
    let node = cgroup_node(task, read);
    judge(mode, tgid, tid, node, read(node, offset!(kn_id)))
}

/// Whether the task is in a target's cgroup, where that is asked.
#[inline(always)]
fn judge(mode: u32, tgid: u32, tid: u32, node: u64, cgroup_id: u64) -> Option<Subject> {
    if mode == TargetMode::Cgroups as u32 && !in_target(node, cgroup_id) {
        return None;
    }
    Some(Subject { tgid, tid, cgroup_id })
}

/// The inode number of the cgroup of a task, which need not be the current one; 0 if it cannot be
/// read.
#[inline(always)]
pub fn cgroup_of(task: u64) -> u64 {
    read(cgroup_node(task, read), offset!(kn_id))
}

/// The kernfs node of a task's cgroup in the watched hierarchy; 0 if it cannot be read.
#[inline(always)]
fn cgroup_node(task: u64, next: impl Fn(u64, u32) -> u64) -> u64 {
    let css_set = next(task, offset!(task_cgroups));
    let subsystem = CGROUP_SUBSYS.load();
    let cgroup = if subsystem == UNIFIED_HIERARCHY {
        next(css_set, offset!(css_set_dfl_cgrp))
    } else {
        // `subsys` is an array of pointers; user space made sure that the index is within it.
        let array = offset!(css_set_subsys);
        let state = if array == NO_OFFSET { 0 } else { next(css_set, array + subsystem * 8) };
        next(state, offset!(css_cgroup))
    };
    next(cgroup, offset!(cgroup_kn))
}

/// The inode number of the current task's node; for node 0 what the kernel says of the unified hierarchy,
/// or 0.
#[inline(always)]
fn node_id(node: u64) -> u64 {
    let id = follow(node, offset!(kn_id));
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
    let mut node = node;
    let mut id = cgroup_id;
    for _ in 0..MAX_CGROUP_DEPTH {
        if TARGET_CGROUPS.get_ptr(id).is_some() {
            return true;
        }
        node = read(node, offset!(kn_parent));
        if node == 0 {
            return false;
        }
        id = read(node, offset!(kn_id));
    }
    false
}
