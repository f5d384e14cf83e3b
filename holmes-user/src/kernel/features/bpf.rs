//! Findings about loading probes: the kernel's age, its type information, BPF itself.

use std::fs::File;
use std::io::{ErrorKind, Read};

use super::answers::Answers;
use super::finding::Finding;
use super::{MAX_BYTES, Roots, read};
use crate::kernel::btf::{Kind, Types};
use crate::kernel::capabilities::{Held, MEMLOCK_FREE};
use crate::kernel::release::Release;
use caps::Capability;

/// Ring buffers came with 5.8; tail calls from programs that have functions of their own with 5.10.
const OLDEST: Release = Release::new(5, 10);

/// `bpf_task_pt_regs`: the user registers of any task.
const TASK_PT_REGS: Release = Release::new(5, 15);

/// Kernels in which reading user memory from an interrupt takes a lock that the interrupted code
/// may hold, where `CONFIG_HARDENED_USERCOPY` is on.
const DEADLOCK: std::ops::Range<Release> = Release::new(5, 19)..Release::new(6, 1);

/// Raw tracepoints that probes attach to.
const TRACEPOINTS: [&str; 6] = [
    "task_newtask",
    "sched_process_exec",
    "sched_process_exit",
    "sys_exit",
    "sched_switch",
    "mark_victim",
];

pub(super) fn findings(
    roots: &Roots,
    release: Option<Release>,
    held: &Held,
    answers: &Answers,
) -> Vec<Finding> {
    let mut findings = vec![kernel(release), map(roots, answers), ring_buffer(release, answers)];
    findings.extend(types(roots));
    findings.push(jit(roots));
    findings.push(pt_regs(release));
    findings.extend(memlock(roots, release, held));
    findings.extend(lockdown(roots));
    findings.extend(deadlock(roots, release));
    findings
}

fn kernel(release: Option<Release>) -> Finding {
    let enables = "everything";
    match release {
        Some(release) if release >= OLDEST => Finding::ok("kernel", enables, format!("{release}")),
        // Some distributions carry BPF back into 4.18: what counts is whether it can be used.
        Some(release) => Finding::degraded(
            "kernel",
            enables,
            format!("{release} is older than {OLDEST}; only what was carried back works"),
        )
        .fix("use a kernel of 5.10 or later"),
        None => Finding::degraded("kernel", enables, "release unknown: /proc is not readable")
            .fix("mount -t proc proc /proc"),
    }
}

fn map(roots: &Roots, answers: &Answers) -> Finding {
    let (name, enables) = ("bpf system call", "loading the probes");
    let number = match answers.bpf_map {
        Ok(()) => return Finding::ok(name, enables, "usable").essential(),
        Err(number) => number,
    };
    let reason = std::io::Error::from_raw_os_error(number);
    let missing = |detail: String| Finding::missing(name, enables, detail).essential();
    match number {
        libc::ENOSYS => missing("the kernel was built without CONFIG_BPF_SYSCALL".to_owned())
            .fix("use a kernel with CONFIG_BPF_SYSCALL=y"),
        libc::EPERM if sandboxed(roots) => missing(format!("{reason}; a seccomp filter is on"))
            .fix(
                "Docker: --security-opt seccomp=unconfined\nKubernetes: securityContext: \
                 { seccompProfile: { type: Unconfined } }",
            ),
        libc::EPERM => {
            let setting = roots.sysctl("kernel/unprivileged_bpf_disabled");
            let setting = setting.map_or(String::new(), |value| {
                format!("; kernel.unprivileged_bpf_disabled is {value}, so CAP_BPF is needed")
            });
            missing(format!("{reason}{setting}"))
                .fix("get the capabilities above, or see `user namespace`")
        }
        _ => missing(reason.to_string()),
    }
}

/// Whether a seccomp filter sits between this process and the kernel.
fn sandboxed(roots: &Roots) -> bool {
    let status = roots.proc("self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

fn ring_buffer(release: Option<Release>, answers: &Answers) -> Finding {
    let (name, enables) = ("BPF ring buffer", "getting samples out of the kernel");
    match answers.ring_buffer {
        Ok(()) => Finding::ok(name, enables, "usable").essential(),
        Err(number) => {
            let reason = std::io::Error::from_raw_os_error(number);
            let finding = Finding::missing(name, enables, reason.to_string()).essential();
            if release.is_some_and(|release| release < OLDEST) {
                finding.fix("use a kernel of 5.10 or later")
            } else {
                finding.fix("see `bpf system call`")
            }
        }
    }
}

fn types(roots: &Roots) -> Vec<Finding> {
    let path = roots.sys.join("kernel/btf/vmlinux");
    let enables = "cgroup filters, memory and thread probes";
    let rebuild = "use a kernel with CONFIG_DEBUG_INFO_BTF=y (every current distribution's)";
    // `btf_trace_NAME` is the type of a raw tracepoint's handlers.
    let handlers = TRACEPOINTS.map(|name| (name, format!("btf_trace_{name}")));
    let wanted: Vec<&str> = handlers.iter().map(|(_, handler)| handler.as_str()).collect();
    let types = match Types::read(&path, &wanted) {
        Ok(types) => types,
        Err(error) if error.kind() == ErrorKind::Other => {
            let detail = format!("{} is not understood: {error}", path.display());
            return vec![Finding::missing("BTF", enables, detail).fix(rebuild)];
        }
        Err(error) => {
            let detail = format!("{}: {error}", path.display());
            return vec![Finding::missing("BTF", enables, detail).fix(rebuild)];
        }
    };
    let tracepoints: Vec<_> = handlers
        .iter()
        .filter(|(_, handler)| !types.has(Kind::Typedef, handler))
        .map(|(name, _)| *name)
        .collect();
    let (name, enables) =
        ("tracepoints", "threads, processes, memory calls, waits and kills for memory");
    let hooks = if tracepoints.is_empty() {
        Finding::ok(name, enables, "all there")
    } else {
        Finding::degraded(name, enables, format!("without {}", tracepoints.join(", ")))
            .fix("use a kernel with CONFIG_TRACEPOINTS=y and CONFIG_FTRACE_SYSCALLS=y")
    };
    let detail = path.display().to_string();
    vec![Finding::ok("BTF", "cgroup filters, ids of new threads, heap growth", detail), hooks]
}

fn jit(roots: &Roots) -> Finding {
    let (name, enables) = ("BPF JIT", "cheap probes");
    match roots.sysctl("net/core/bpf_jit_enable") {
        Some(0) => {
            Finding::degraded(name, enables, "off: probes are interpreted, ten times slower")
                .fix("sudo sysctl net.core.bpf_jit_enable=1")
        }
        Some(_) => Finding::ok(name, enables, "on"),
        // The setting belongs to the first network namespace, and is not seen from others.
        None => Finding::ok(name, enables, "not visible in this network namespace"),
    }
}

fn pt_regs(release: Option<Release>) -> Finding {
    let (name, enables) = ("bpf_task_pt_regs", "user registers of any task");
    match release {
        Some(release) if release < TASK_PT_REGS => {
            let instead = "found at the end of the kernel stack instead";
            Finding::ok(name, enables, format!("{release} is older than {TASK_PT_REGS}; {instead}"))
        }
        Some(_) => Finding::ok(name, enables, format!("since {TASK_PT_REGS}")),
        None => Finding::degraded(name, enables, "release unknown"),
    }
}

/// Before 5.11 maps count towards a limit that is small by default.
fn memlock(roots: &Roots, release: Option<Release>, held: &Held) -> Option<Finding> {
    if release? >= MEMLOCK_FREE {
        return None;
    }
    let (name, enables) = ("locked memory", "maps of the probes");
    let limits = roots.proc("self/limits").unwrap_or_default();
    let soft = super::files::limit(&limits, "Max locked memory").unwrap_or("unknown").to_owned();
    if soft == "unlimited" || held.has(Capability::CAP_SYS_RESOURCE) {
        return Some(Finding::ok(name, enables, format!("{soft}; can be raised")));
    }
    Some(
        Finding::missing(name, enables, format!("at most {soft} bytes, and cannot be raised"))
            .fix("ulimit -l unlimited\nsystemd: LimitMEMLOCK=infinity\nDocker: --ulimit memlock=-1")
            .essential(),
    )
}

fn lockdown(roots: &Roots) -> Option<Finding> {
    let text = roots.sys("kernel/security/lockdown")?;
    let (name, enables) = ("kernel lockdown", "reading kernel memory from probes");
    if text.contains("[confidentiality]") {
        return Some(
            Finding::missing(name, enables, "confidentiality: BPF may not read, perf is off")
                .fix("boot with lockdown=integrity, or without lockdown=")
                .essential(),
        );
    }
    Some(Finding::ok(name, enables, "not in the way"))
}

/// Whether sampling user stacks may dead-lock this kernel: releases 5.19 to before 6.1, where
/// `CONFIG_HARDENED_USERCOPY` is on. `None` is "in that range, and the configuration is unknown".
pub fn usercopy_deadlock(roots: &Roots, release: Release) -> Option<bool> {
    if !DEADLOCK.contains(&release) {
        return Some(false);
    }
    let config = configuration(roots)?;
    Some(config.lines().any(|line| line == "CONFIG_HARDENED_USERCOPY=y"))
}

/// The configuration the kernel was built with.
fn configuration(roots: &Roots) -> Option<String> {
    if let Ok(file) = File::open(roots.proc.join("config.gz")) {
        let mut text = String::new();
        let packed = flate2::read::GzDecoder::new(file);
        if packed.take(MAX_BYTES).read_to_string(&mut text).is_ok() {
            return Some(text);
        }
    }
    let name = roots.proc("sys/kernel/osrelease")?;
    read(&roots.boot.join(format!("config-{}", name.trim())))
}

fn deadlock(roots: &Roots, release: Option<Release>) -> Option<Finding> {
    let release = release.filter(|release| DEADLOCK.contains(release))?;
    let (name, enables) = ("hardened usercopy", "safe reading of user stacks");
    let fix = "use a kernel of 6.1 or later, or boot with hardened_usercopy=off";
    Some(match usercopy_deadlock(roots, release) {
        Some(false) => Finding::ok(name, enables, "off, as kernels 5.19 and 6.0 need it"),
        Some(true) => Finding::missing(
            name,
            enables,
            format!("on: in {release}, sampling can dead-lock a CPU"),
        )
        .fix(fix),
        None => Finding::degraded(
            name,
            enables,
            format!("unknown: in {release}, sampling can dead-lock a CPU where it is on"),
        )
        .fix(fix),
    })
}
