//! Findings about seeing other processes and naming what they run.

use std::fs;

use caps::Capability;

use super::Roots;
use super::files::Mounts;
use super::finding::Finding;
use crate::kernel::capabilities::Held;

/// `PROC_PID_INIT_INO` and `PROC_USER_INIT_INO`: the first namespaces have fixed inode numbers.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

pub(super) fn findings(roots: &Roots, held: &Held) -> Vec<Finding> {
    vec![pid_namespace(roots), user_namespace(roots), hidepid(roots, held), kallsyms(roots)]
}

/// Probes report pids of the first namespace; `/proc` has to speak of the same ones.
fn pid_namespace(roots: &Roots) -> Finding {
    let (name, enables) = ("pid namespace", "names of user functions");
    let link = fs::read_link(roots.proc.join("1/ns/pid"));
    let first = match &link {
        Ok(namespace) => namespace.as_os_str() == FIRST_PID_NAMESPACE,
        // The link is readable with CAP_SYS_PTRACE only. The kernel's second process is always
        // kthreadd, which no other namespace has.
        Err(_) => roots.proc("2/comm").is_some_and(|comm| comm.trim() == "kthreadd"),
    };
    if first {
        return Finding::ok(name, enables, "/proc shows the host's processes");
    }
    Finding::degraded(name, enables, "/proc shows a container's processes, not the host's")
        .fix("Docker: --pid=host\nKubernetes: spec: { hostPID: true }")
}

/// Capabilities in any other user namespace do not count for BPF and perf.
fn user_namespace(roots: &Roots) -> Finding {
    let (name, enables) = ("user namespace", "capabilities that count");
    match fs::read_link(roots.proc.join("self/ns/user")) {
        Ok(namespace) if namespace.as_os_str() != FIRST_USER_NAMESPACE => {
            Finding::missing(name, enables, "a container's own: its root is not the host's").fix(
                "Docker: --userns=host (and not rootless)\nKubernetes: spec: { hostUsers: true }",
            )
        }
        Ok(_) => Finding::ok(name, enables, "the host's"),
        Err(_) => Finding::ok(name, enables, "the kernel has only one"),
    }
}

fn hidepid(roots: &Roots, held: &Held) -> Finding {
    let (name, enables) = ("hidepid", "seeing other users' processes");
    let hidden = Mounts::read(roots).option("/proc", "proc", "hidepid");
    match hidden.as_deref() {
        None | Some("0" | "off") => Finding::ok(name, enables, "/proc hides nothing"),
        Some(mode) if held.has(Capability::CAP_SYS_PTRACE) => {
            Finding::ok(name, enables, format!("hidepid={mode}; CAP_SYS_PTRACE sees through it"))
        }
        Some(mode) => Finding::degraded(name, enables, format!("/proc has hidepid={mode}"))
            .fix("sudo mount -o remount,hidepid=0 /proc, or add CAP_SYS_PTRACE"),
    }
}

fn kallsyms(roots: &Roots) -> Finding {
    let (name, enables) = ("kernel symbols", "names of kernel functions");
    let restrict = roots.sysctl("kernel/kptr_restrict");
    let restrict = restrict.map_or("unknown".to_owned(), |level| level.to_string());
    let Some(text) = roots.proc("kallsyms") else {
        return Finding::degraded(name, enables, "/proc/kallsyms is not readable")
            .fix("use a kernel with CONFIG_KALLSYMS=y");
    };
    // Without the right to see them, all addresses read as zero.
    let shown = text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next())
        .any(|address| address.bytes().any(|digit| digit != b'0'));
    if shown {
        return Finding::ok(
            name,
            enables,
            format!("readable (kernel.kptr_restrict is {restrict})"),
        );
    }
    // At 2 nobody sees them; below, whoever has the capability does.
    let fix = if restrict == "2" {
        "sudo sysctl kernel.kptr_restrict=1, and get CAP_SYSLOG"
    } else {
        "get CAP_SYSLOG"
    };
    Finding::degraded(name, enables, format!("hidden (kernel.kptr_restrict is {restrict})"))
        .fix(fix)
}
