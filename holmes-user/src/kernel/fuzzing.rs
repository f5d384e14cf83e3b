//! Doors for `tests/fuzz`: the readers of this stage on bytes that no kernel wrote.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::btf::{Kind, Types};
use super::cgroupfs::mountinfo;

/// The kernel's type information.
pub fn btf(data: &[u8]) {
    let names = ["task_struct", "cgroup", "bpf_func_id"];
    let Ok(types) = Types::parse(data.to_vec(), &names) else { return };
    for name in names {
        for member in ["pid", "mm", "id", "", "BPF_FUNC_x"] {
            if types.member_offset(name, member).is_some() {
                assert!(types.has(Kind::Struct, name));
            }
            if types.enum_value(name, member).is_some() {
                assert!(types.has(Kind::Enum, name) || types.has(Kind::Enum64, name));
            }
        }
    }
    assert!(!types.has(Kind::Struct, "not_wanted"));
}

/// The mounts of cgroup file systems.
pub fn mount_table(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mounts = mountinfo::parse(&text);
    assert!(mounts.len() <= text.lines().count());
    for mount in &mounts {
        assert!(mount.point.is_absolute() && mount.root.starts_with('/'), "{mount:?}");
        if let mountinfo::Flavour::V1(controllers) = &mount.flavour {
            assert!(controllers.is_sorted_by_key(|controller| mountinfo::rank(controller)));
            assert!(!controllers.is_empty());
        }
    }
}
