//! Struct offsets and enum values of the running kernel, from its own type information.
//!
//! # Layout
//! - `types`: the reader of the format;
//! - `error`: why it does not understand.
//!
//! Must not: load anything into the kernel.

mod error;
mod types;

use std::io;
use std::path::Path;

use holmes_common::globals::{NO_OFFSET, Offsets};

pub(super) use self::types::{Kind, Types};

/// Where the kernel keeps its type information.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The types that questions are asked about.
const WANTED: [&str; 14] = [
    "task_struct",
    "thread_info",
    "sched_info",
    "sched_entity",
    "signal_struct",
    "mm_struct",
    RSS_COUNTS,
    PER_CPU_COUNTER,
    "css_set",
    "cgroup_subsys_state",
    "cgroup",
    "kernfs_node",
    SUBSYSTEMS,
    HELPERS,
];

/// What `mm_struct.rss_stat` was before 6.2: an array of words, in a struct of its own.
const RSS_COUNTS: &str = "mm_rss_stat";

/// What it is an array of since.
const PER_CPU_COUNTER: &str = "percpu_counter";

/// `MM_ANONPAGES`: the index of the anonymous pages in that array.
const ANON_PAGES: u32 = 1;

/// The enum of cgroup controllers.
const SUBSYSTEMS: &str = "cgroup_subsys_id";

/// The enum of helper functions.
const HELPERS: &str = "bpf_func_id";

/// The running kernel's types.
pub(super) struct KernelTypes(Types);

impl KernelTypes {
    /// Reads the types of the running kernel.
    pub(super) fn read() -> io::Result<Self> {
        Types::read(Path::new(VMLINUX), &WANTED).map(Self)
    }

    /// Everything the probes chase pointers through. What is absent is [`NO_OFFSET`].
    pub(super) fn offsets(&self) -> Offsets {
        Offsets {
            task_pid: self.offset("task_struct", &["pid"]),
            task_tgid: self.offset("task_struct", &["tgid"]),
            task_mm: self.offset("task_struct", &["mm"]),
            task_stack: self.offset("task_struct", &["stack"]),
            task_status: self.nested("thread_info", "thread_info", "status"),
            task_state: self.offset("task_struct", &["__state", "state"]),
            task_flags: self.offset("task_struct", &["flags"]),
            task_comm: self.offset("task_struct", &["comm"]),
            task_last_arrival: self.nested("sched_info", "sched_info", "last_arrival"),
            task_run_time: self.nested("se", "sched_entity", "sum_exec_runtime"),
            task_run_before: self.nested("se", "sched_entity", "prev_sum_exec_runtime"),
            task_cgroups: self.offset("task_struct", &["cgroups"]),
            task_signal: self.offset("task_struct", &["signal"]),
            signal_live: self.offset("signal_struct", &["live"]),
            mm_anon_pages: self.anon_pages(),
            mm_brk: self.offset("mm_struct", &["brk"]),
            mm_total_vm: self.offset("mm_struct", &["total_vm"]),
            mm_stack_vm: self.offset("mm_struct", &["stack_vm"]),
            css_set_subsys: self.offset("css_set", &["subsys"]),
            css_set_dfl_cgrp: self.offset("css_set", &["dfl_cgrp"]),
            css_cgroup: self.offset("cgroup_subsys_state", &["cgroup"]),
            cgroup_kn: self.offset("cgroup", &["kn"]),
            kn_parent: self.offset("kernfs_node", &["__parent", "parent"]),
            kn_id: self.offset("kernfs_node", &["id"]),
        }
    }

    /// A member of a struct that is itself a member of each task.
    fn nested(&self, member: &str, structure: &str, name: &str) -> u32 {
        let outer = self.offset("task_struct", &[member]);
        let inner = self.offset(structure, &[name]);
        if outer == NO_OFFSET || inner == NO_OFFSET {
            NO_OFFSET
        } else {
            outer.saturating_add(inner)
        }
    }

    /// Where an address space counts its anonymous pages.
    fn anon_pages(&self) -> u32 {
        let array = self.offset("mm_struct", &["rss_stat"]);
        let in_array = match self.0.size(RSS_COUNTS) {
            Some(_) => Some(ANON_PAGES * 8),
            None => self.0.size(PER_CPU_COUNTER).and_then(|size| {
                let count = self.0.member_offset(PER_CPU_COUNTER, "count")?;
                size.checked_mul(ANON_PAGES)?.checked_add(count)
            }),
        };
        match in_array {
            Some(offset) if array != NO_OFFSET => array.saturating_add(offset),
            _ => NO_OFFSET,
        }
    }

    /// Whether an address space counts its pages in structs, one for each kind of page.
    pub(super) fn has_counter_structs(&self) -> bool {
        self.0.size(RSS_COUNTS).is_none()
    }

    /// The index of a controller in `css_set.subsys`.
    pub(super) fn controller_index(&self, controller: &str) -> Option<u32> {
        let value = |name: &str| self.0.enum_value(SUBSYSTEMS, name);
        let index = value(&format!("{controller}_cgrp_id"))?;
        let count = value("CGROUP_SUBSYS_COUNT")?;
        u32::try_from(index).ok().filter(|_| index < count)
    }

    /// Whether programs can call a helper function of this name, without `bpf_`.
    pub(super) fn has_helper(&self, name: &str) -> bool {
        self.0.enum_value(HELPERS, &format!("BPF_FUNC_{name}")).is_some()
    }

    /// The offset in bytes of the first of `names` that the struct has.
    fn offset(&self, structure: &str, names: &[&str]) -> u32 {
        let offset = |name| self.0.member_offset(structure, name);
        names.iter().copied().find_map(offset).unwrap_or(NO_OFFSET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields that every kernel since 5.8 has, on whichever kernel this test runs.
    #[test]
    fn the_running_kernel_has_the_fields() {
        let Ok(types) = KernelTypes::read() else {
            assert!(!Path::new(VMLINUX).exists(), "BTF is there but cannot be read");
            return;
        };
        let offsets = types.offsets();
        let known = [
            offsets.task_pid,
            offsets.task_tgid,
            offsets.task_mm,
            offsets.task_stack,
            offsets.task_state,
            offsets.task_flags,
            offsets.task_cgroups,
            offsets.task_signal,
            offsets.signal_live,
            offsets.mm_anon_pages,
            offsets.mm_brk,
            offsets.mm_total_vm,
            offsets.mm_stack_vm,
            offsets.css_set_subsys,
            offsets.css_set_dfl_cgrp,
            offsets.css_cgroup,
            offsets.cgroup_kn,
            offsets.kn_parent,
            offsets.kn_id,
        ];
        for offset in known.into_iter().filter(|offset| *offset != offsets.css_set_subsys) {
            assert_ne!(offset, NO_OFFSET, "{offsets:?}");
            assert!(offset < 64 << 10, "{offsets:?}");
        }
        assert!(types.has_helper("get_stack") && !types.has_helper("no_such_helper"));
        assert_eq!(offsets.task_tgid, offsets.task_pid + 4, "pid and tgid are neighbours");
    }

    #[test]
    fn a_controller_that_no_kernel_has_is_not_found() {
        if let Ok(types) = KernelTypes::read() {
            assert_eq!(types.controller_index("no_such_controller"), None);
            assert!(types.controller_index("memory").is_some());
        }
    }
}
