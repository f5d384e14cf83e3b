//! Struct offsets and enum values of the running kernel, from its own type information.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>.

use std::io;
use std::path::Path;

use btf_rs::{Btf, Type};
use holmes_common::globals::{NO_OFFSET, Offsets};

/// Where the kernel keeps its type information.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Anonymous structs nest two or three deep in the kernel; a cycle would be nonsense.
const MAX_NESTING: usize = 8;

/// The running kernel's types.
pub(super) struct KernelTypes(Btf);

impl KernelTypes {
    /// Reads the types of the running kernel.
    pub(super) fn read() -> io::Result<Self> {
        // Tell "not there" and "not allowed" apart before the parser sees it.
        std::fs::File::open(VMLINUX)?;
        Btf::from_file(Path::new(VMLINUX)).map(Self).map_err(io::Error::other)
    }

    /// Everything the probes chase pointers through. What is absent is [`NO_OFFSET`].
    pub(super) fn offsets(&self) -> Offsets {
        Offsets {
            task_pid: self.offset("task_struct", &["pid"]),
            task_tgid: self.offset("task_struct", &["tgid"]),
            task_mm: self.offset("task_struct", &["mm"]),
            task_cgroups: self.offset("task_struct", &["cgroups"]),
            mm_brk: self.offset("mm_struct", &["brk"]),
            mm_total_vm: self.offset("mm_struct", &["total_vm"]),
            css_set_subsys: self.offset("css_set", &["subsys"]),
            css_set_dfl_cgrp: self.offset("css_set", &["dfl_cgrp"]),
            css_cgroup: self.offset("cgroup_subsys_state", &["cgroup"]),
            cgroup_kn: self.offset("cgroup", &["kn"]),
            kn_parent: self.offset("kernfs_node", &["__parent", "parent"]),
            kn_id: self.offset("kernfs_node", &["id"]),
        }
    }

    /// The index of a controller in `css_set.subsys`.
    pub(super) fn controller_index(&self, controller: &str) -> Option<u32> {
        let wanted = format!("{controller}_cgrp_id");
        let count = "CGROUP_SUBSYS_COUNT";
        let types = self.0.resolve_types_by_name("cgroup_subsys_id").ok()?;
        let members = types.into_iter().find_map(|kind| match kind {
            Type::Enum(members) => Some(members),
            _ => None,
        })?;
        let value = |name: &str| {
            members
                .members
                .iter()
                .find(|member| self.0.resolve_name(*member).is_ok_and(|found| found == name))
                .map(btf_rs::EnumMember::val)
        };
        value(&wanted).filter(|index| value(count).is_some_and(|count| *index < count))
    }

    /// The offset in bytes of the first of `names` that the struct has.
    fn offset(&self, structure: &str, names: &[&str]) -> u32 {
        let Ok(types) = self.0.resolve_types_by_name(structure) else {
            return NO_OFFSET;
        };
        types
            .iter()
            .filter_map(|kind| match kind {
                Type::Struct(found) => Some(found),
                _ => None,
            })
            .find_map(|found| names.iter().find_map(|name| self.member(found, name, 0)))
            .unwrap_or(NO_OFFSET)
    }

    /// Looks for a member in a struct or union and in the anonymous ones inside it.
    fn member(&self, structure: &btf_rs::Struct, name: &str, depth: usize) -> Option<u32> {
        if depth > MAX_NESTING {
            return None;
        }
        structure.members.iter().find_map(|member| {
            let own = member.bit_offset() / 8;
            match self.0.resolve_name(member).unwrap_or_default().as_str() {
                found if found == name => Some(own),
                "" => match self.0.resolve_chained_type(member).ok()? {
                    Type::Struct(inner) | Type::Union(inner) => {
                        self.member(&inner, name, depth + 1).map(|offset| own + offset)
                    }
                    _ => None,
                },
                _ => None,
            }
        })
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
            offsets.task_cgroups,
            offsets.mm_brk,
            offsets.mm_total_vm,
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
