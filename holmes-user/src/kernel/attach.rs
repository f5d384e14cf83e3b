//! Attaches each probe on its own. One that fails is off, and says why; the others go on.

use std::error::Error;

use aya::Ebpf;
use aya::programs::perf_event::{
    HardwareEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::programs::{PerfEvent, Program, ProgramError, RawTracePoint, TracePoint};
use aya::util::online_cpus;
use holmes_common::limits::FAULT_FREQUENCY;
use tracing::{debug, warn};

use super::probes::{ProbeState, ProbeStatus, SampleEvent, Sampling};
use super::tracefs;

/// How a program is attached.
#[derive(Clone, Copy)]
enum Hook {
    /// To a raw tracepoint of this name.
    RawTracepoint(&'static str),
    /// To a system-call tracepoint of this name.
    Syscall(&'static str),
}

/// One probe as the user knows it.
struct Probe {
    name: &'static str,
    enables: &'static str,
    /// Its programs in the order of attachment: what keeps a value for another comes first.
    programs: &'static [(&'static str, Hook)],
}

const PROBES: &[Probe] = &[
    Probe {
        name: "threads",
        enables: "threads and processes with their creators' stacks",
        programs: &[("task_newtask", Hook::RawTracepoint("task_newtask"))],
    },
    Probe {
        name: "exec",
        enables: "new programs are noticed at once",
        programs: &[("sched_process_exec", Hook::RawTracepoint("sched_process_exec"))],
    },
    Probe {
        name: "exit",
        enables: "how many threads are alive",
        programs: &[("sched_process_exit", Hook::RawTracepoint("sched_process_exit"))],
    },
    Probe {
        name: "mmap",
        enables: "mapped memory by stack",
        programs: &[("mmap_exit", Hook::Syscall("sys_exit_mmap"))],
    },
    Probe {
        name: "munmap",
        enables: "unmapped memory",
        programs: &[
            ("munmap_enter", Hook::Syscall("sys_enter_munmap")),
            ("munmap_exit", Hook::Syscall("sys_exit_munmap")),
        ],
    },
    Probe {
        name: "brk",
        enables: "heap growth by stack",
        programs: &[
            ("brk_enter", Hook::Syscall("sys_enter_brk")),
            ("brk_exit", Hook::Syscall("sys_exit_brk")),
        ],
    },
    Probe {
        name: "mremap",
        enables: "resized mappings by stack",
        programs: &[("mremap_exit", Hook::Syscall("sys_exit_mremap"))],
    },
    Probe {
        name: "madvise",
        enables: "memory given back without being unmapped",
        programs: &[("madvise_exit", Hook::Syscall("sys_exit_madvise"))],
    },
    Probe {
        name: "oom",
        enables: "incidents when the kernel kills for memory",
        programs: &[("mark_victim", Hook::RawTracepoint("mark_victim"))],
    },
];

/// What [`lifecycle`] attaches.
const LIFECYCLE: [&str; 2] = ["exec", "exit"];

/// Attaches everything, the sampler last: attaching the others rewrites kernel code, and those
/// stalls would show up as the workload's.
pub(super) fn all(ebpf: &mut Ebpf, frequency: u32) -> (Vec<ProbeStatus>, Option<Sampling>) {
    let mut statuses = attach_where(ebpf, |_| true);
    let state = match faults(ebpf) {
        Ok(how) => ProbeState::On(how),
        Err(why) => ProbeState::Off(why),
    };
    let programs = vec!["fault"];
    let enables = "resident memory by stack";
    statuses.push(ProbeStatus { name: "faults", enables, programs, state });
    let sampling = sample(ebpf, frequency);
    let state = match &sampling {
        Ok(sampling) => ProbeState::On(format!(
            "{} at {frequency} Hz on {} CPUs",
            sampling.event, sampling.cpus
        )),
        Err(why) => ProbeState::Off(why.clone()),
    };
    let programs = vec!["sample"];
    statuses.insert(0, ProbeStatus { name: "samples", enables: "CPU profiles", programs, state });
    (statuses, sampling.ok())
}

/// Attaches what tells that a process goes on as another, or ends: where nothing else is wanted.
pub(super) fn lifecycle(ebpf: &mut Ebpf) -> Vec<ProbeStatus> {
    attach_where(ebpf, |name| LIFECYCLE.contains(&name))
}

fn attach_where(ebpf: &mut Ebpf, wanted: impl Fn(&str) -> bool) -> Vec<ProbeStatus> {
    let wanted = PROBES.iter().filter(|probe| wanted(probe.name));
    wanted
        .map(|probe| {
            let state = match attach(ebpf, probe) {
                Ok(()) => ProbeState::On(String::new()),
                Err(why) => ProbeState::Off(why),
            };
            let programs = probe.programs.iter().map(|(name, _)| *name).collect();
            ProbeStatus { name: probe.name, enables: probe.enables, programs, state }
        })
        .collect()
}

/// Attaches all programs of a probe, or none: half a pair would only fill the other half's map.
fn attach(ebpf: &mut Ebpf, probe: &Probe) -> Result<(), String> {
    let attached = attach_each(ebpf, probe);
    if attached.is_err() {
        let programs: Vec<&str> = probe.programs.iter().map(|(name, _)| *name).collect();
        detach(ebpf, |name| programs.contains(&name));
    }
    attached
}

/// Detaches programs, and unloads them.
pub(super) fn detach(ebpf: &mut Ebpf, wanted: impl Fn(&str) -> bool) {
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| wanted(name)) {
        // Unloading closes the program's links as well. A program that was never loaded has
        // nothing to detach, which it reports as an error.
        let unloaded = match program {
            Program::PerfEvent(program) => program.unload(),
            Program::RawTracePoint(program) => program.unload(),
            Program::TracePoint(program) => program.unload(),
            Program::UProbe(program) => program.unload(),
            _ => Ok(()),
        };
        if let Err(error) = unloaded {
            debug!("{name}: {error}");
        }
    }
}

fn attach_each(ebpf: &mut Ebpf, probe: &Probe) -> Result<(), String> {
    for (name, hook) in probe.programs {
        let Some(program) = ebpf.program_mut(name) else {
            return Err(format!("the embedded object has no program {name}"));
        };
        match hook {
            Hook::RawTracepoint(tracepoint) => raw_tracepoint(program, tracepoint),
            Hook::Syscall(tracepoint) => {
                // Said before the attempt: it tells what to do, the attempt's own error does not.
                tracefs::find()?;
                syscall(program, tracepoint)
            }
        }
        .map_err(|error| format!("{name}: {}", chain(&error)))?;
    }
    Ok(())
}

fn raw_tracepoint(program: &mut Program, tracepoint: &str) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    program.attach(tracepoint).map(drop)
}

fn syscall(program: &mut Program, tracepoint: &str) -> Result<(), ProgramError> {
    let program: &mut TracePoint = program.try_into()?;
    program.load()?;
    program.attach("syscalls", tracepoint).map(drop)
}

/// Opens one perf event on each CPU.
fn sample(ebpf: &mut Ebpf, frequency: u32) -> Result<Sampling, String> {
    let frequency = u64::from(frequency.max(1));
    let period_ns = 1_000_000_000 / frequency;
    let program = ebpf.program_mut("sample").ok_or("the embedded object has no program sample")?;
    let program: &mut PerfEvent =
        program.try_into().map_err(|error: ProgramError| chain(&error))?;
    program.load().map_err(|error| chain(&error))?;
    let cpus = online_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;

    // The hardware's counter stops with the CPU and sees into sections where interrupts are off.
    let cycles = PerfEventConfig::Hardware(HardwareEvent::CpuCycles);
    let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
    let without = on_each(program, &cpus, cycles, SamplePolicy::Frequency(frequency));
    if let Some((cpu, error)) = without.first() {
        debug!("no hardware cycles on {} CPUs, as {cpu}: {}", without.len(), chain(error));
    }
    // A CPU whose counters are taken must not go unseen because others' are free.
    let rest: Vec<u32> = without.iter().map(|(cpu, _)| *cpu).collect();
    let unseen = on_each(program, &rest, clock, SamplePolicy::Period(period_ns));
    let event = if rest.len() < cpus.len() { SampleEvent::Cycles } else { SampleEvent::CpuClock };
    match unseen.first() {
        Some((_, error)) if unseen.len() == cpus.len() => return Err(chain(error)),
        // It may just have gone offline.
        Some((cpu, error)) => warn!("CPU {cpu} is not sampled: {}", chain(error)),
        None => {}
    }
    Ok(Sampling { event, cpus: cpus.len() - unseen.len(), period_ns })
}

/// Opens the events of successful page faults on each CPU. Those that go to the disk are an event of
/// their own.
fn faults(ebpf: &mut Ebpf) -> Result<String, String> {
    let program = ebpf.program_mut("fault").ok_or("the embedded object has no program fault")?;
    let program: &mut PerfEvent =
        program.try_into().map_err(|error: ProgramError| chain(&error))?;
    program.load().map_err(|error| chain(&error))?;
    let cpus = online_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;
    let frequency = FAULT_FREQUENCY.min(max_frequency().unwrap_or(FAULT_FREQUENCY));
    let mut open = |event| {
        let event = PerfEventConfig::Software(event);
        on_each(program, &cpus, event, SamplePolicy::Frequency(frequency))
    };
    let unseen = open(SoftwareEvent::PageFaultsMin);
    if let Some((cpu, error)) = open(SoftwareEvent::PageFaultsMaj).first() {
        warn!("page faults that go to the disk are not seen on CPU {cpu}: {}", chain(error));
    }
    match unseen.first() {
        Some((_, error)) if unseen.len() == cpus.len() => {
            let why = chain(error);
            detach(ebpf, |name| name == "fault");
            return Err(why);
        }
        Some((cpu, error)) => warn!("page faults of CPU {cpu} are not seen: {}", chain(error)),
        None => {}
    }
    Ok(format!("on {} CPUs", cpus.len() - unseen.len()))
}

/// The highest frequency that the kernel lets an event ask for.
fn max_frequency() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok()?;
    text.trim().parse().ok().filter(|rate| *rate > 0)
}

/// Attaches to one event of each of these CPUs. Returns those where that failed, and why.
fn on_each(
    program: &mut PerfEvent,
    cpus: &[u32],
    event: PerfEventConfig,
    policy: SamplePolicy,
) -> Vec<(u32, ProgramError)> {
    let attach = |&cpu: &u32| {
        let scope = PerfEventScope::AllProcessesOneCpu { cpu };
        program.attach(event, scope, policy, false).err().map(|error| (cpu, error))
    };
    cpus.iter().filter_map(attach).collect()
}

/// With what the verifier has counted its log ends: that is not why it refuses.
const VERIFIER_COUNTS: [&str; 3] = ["verification time", "stack depth", "processed "];

/// An error with its causes in one line. The verifier's log is long; its last lines say why.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    let says_why = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !VERIFIER_COUNTS.iter().any(|count| line.starts_with(count))
    };
    let lines: Vec<&str> = text.lines().filter(says_why).collect();
    match lines.as_slice() {
        [first, .., before, last] if lines.len() > 4 => format!("{first} ... {before} {last}"),
        lines => lines.join(" "),
    }
}
