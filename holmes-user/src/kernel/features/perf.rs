//! Findings about sampling: perf events and how deep their stacks go.

use std::io;

use holmes_common::limits::MAX_KERNEL_FRAMES;

use super::Roots;
use super::answers::Answers;
use super::finding::Finding;

pub(super) fn findings(roots: &Roots, answers: &Answers) -> Vec<Finding> {
    vec![cpu_clock(roots, answers), cycles(answers), max_stack(roots)]
}

fn cpu_clock(roots: &Roots, answers: &Answers) -> Finding {
    let (name, enables) = ("cpu-clock events", "sampling every CPU");
    let number = match answers.cpu_clock {
        Ok(()) => return Finding::ok(name, enables, "usable").essential(),
        Err(number) => number,
    };
    let reason = io::Error::from_raw_os_error(number);
    let missing = |detail: String| Finding::missing(name, enables, detail).essential();
    match number {
        libc::ENOSYS => missing("the kernel was built without CONFIG_PERF_EVENTS".to_owned())
            .fix("use a kernel with CONFIG_PERF_EVENTS=y"),
        libc::EACCES | libc::EPERM => {
            let paranoid = roots.sysctl("kernel/perf_event_paranoid");
            let paranoid = paranoid.map_or(String::new(), |level| {
                format!("; kernel.perf_event_paranoid is {level}, so CAP_PERFMON is needed")
            });
            missing(format!("{reason}{paranoid}")).fix(
                "get the capabilities above; where they are in effect, a seccomp filter forbids it:\n\
                 Docker: --security-opt seccomp=unconfined\nKubernetes: securityContext: \
                 { seccompProfile: { type: Unconfined } }",
            )
        }
        _ => missing(reason.to_string()),
    }
}

fn cycles(answers: &Answers) -> Finding {
    let (name, enables) = ("hardware cycles", "samples inside code that masks interrupts");
    match answers.cycles {
        Ok(()) => Finding::ok(name, enables, "the CPU has a counter"),
        Err(libc::EACCES | libc::EPERM) => {
            Finding::degraded(name, enables, "not permitted").fix("see `cpu-clock events`")
        }
        Err(_) => Finding::degraded(name, enables, "no counter; cpu-clock is used instead")
            .fix("in a virtual machine, give it a PMU: qemu -cpu host,pmu=on"),
    }
}

fn max_stack(roots: &Roots) -> Finding {
    let (name, enables) = ("stack depth", "whole kernel stacks");
    match roots.sysctl("kernel/perf_event_max_stack") {
        Some(depth) if depth < MAX_KERNEL_FRAMES as i64 => {
            Finding::degraded(name, enables, format!("cut at {depth} frames"))
                .fix(format!("sudo sysctl kernel.perf_event_max_stack={MAX_KERNEL_FRAMES}"))
        }
        Some(depth) => {
            Finding::ok(name, enables, format!("{depth} frames; {MAX_KERNEL_FRAMES} are kept"))
        }
        None => Finding::ok(name, enables, "the kernel's default"),
    }
}
