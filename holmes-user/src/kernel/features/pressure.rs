//! The finding about early warnings: pressure stall information, and events of the memory controller.

use super::Roots;
use super::files::Mounts;
use super::finding::Finding;

pub(super) fn finding(roots: &Roots) -> Finding {
    let (name, enables) = ("memory pressure", "early warnings before memory runs out");
    let v1_memory = Mounts::read(roots)
        .of_kind("cgroup")
        .any(|mount| mount.super_options.contains_key("memory"));
    // A kernel without PSI, or with PSI switched off, does not show the file.
    match (roots.proc("pressure/memory"), v1_memory) {
        (Some(_), false) => Finding::ok(name, enables, "of the host and of cgroups"),
        (Some(_), true) => {
            Finding::ok(name, enables, "of the host; cgroup v1 knows none of its own")
        }
        (None, _) => Finding::degraded(name, enables, "no /proc/pressure: this kernel keeps none")
            .fix("boot with psi=1 (needs a kernel with CONFIG_PSI=y)"),
    }
}
