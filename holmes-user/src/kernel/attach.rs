//! Attaches each probe on its own. One that fails is off, and says why; the others go on.

use std::error::Error;

use aya::maps::{MapData, ProgramArray};
use aya::programs::perf_event::{
    HardwareEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent,
};
use aya::programs::{PerfEvent, Program, ProgramError, RawTracePoint};
use aya::util::online_cpus;
use aya::{Btf, Ebpf};
use holmes_common::limits::FAULT_FREQUENCY;
use tracing::{debug, warn};

use super::OptionalProbe;
use super::blocked;
use super::chains;
use super::features::Roots;
use super::functions;
use super::iterators;
use super::loading;
use super::probes::{ProbeState, ProbeStatus, SampleEvent, Sampling};
use super::release::Release;
use super::spaces;

/// One probe as the user knows it.
struct Probe {
    name: &'static str,
    enables: &'static str,
    program: &'static str,
    /// The raw tracepoint that the program is attached to.
    tracepoint: &'static str,
}

impl Probe {
    /// What came of attaching it.
    fn status(&self, attached: Result<(), String>) -> ProbeStatus {
        let state = ProbeState::of(attached.map(|()| String::new()));
        let Self { name, enables, program, .. } = *self;
        ProbeStatus { name, enables, programs: vec![program], state }
    }
}

const PROBES: &[Probe] = &[
    Probe {
        name: "threads",
        enables: "threads and processes with their creators' stacks",
        program: "task_newtask",
        tracepoint: "task_newtask",
    },
    Probe {
        name: "exec",
        enables: "new programs are noticed at once",
        program: "sched_process_exec",
        tracepoint: "sched_process_exec",
    },
    Probe {
        name: "exit",
        enables: "how many threads are alive",
        program: "sched_process_exit",
        tracepoint: "sched_process_exit",
    },
    Probe {
        name: WAITS,
        enables: "where threads wait, for what and how long",
        program: "sched_switch",
        tracepoint: "sched_switch",
    },
    Probe {
        name: "oom",
        enables: "incidents when the kernel kills for memory",
        program: "mark_victim",
        tracepoint: "mark_victim",
    },
];

/// Memory calls where their functions' ends cannot be attached to: at the ends of all system calls.
const CALLS: Probe = Probe {
    name: "memory",
    enables: "memory mapped, resized and given back, by stack",
    program: "memory_call",
    tracepoint: "sys_exit",
};

/// The probe of waits, and the one that looks at those under way.
const WAITS: &str = "waits";
const BLOCKED: &str = "blocked";

/// Since when the ring buffer may be written to where nothing may sleep, on a kernel that can be preempted
/// everywhere: before, the lock of the run queue was held while it slept (`bpf: Use raw_spinlock_t in
/// ringbuf`, in 6.12).
const WRITES_WITHOUT_SLEEP: Release = Release::new(6, 12);

/// Why the probe of waits must not be attached on this kernel, if so. `know_tasks`: whether the probes can
/// read what a task is.
pub(super) fn no_waits(know_tasks: bool) -> Option<&'static str> {
    if !know_tasks {
        return Some("the kernel's types cannot be read, and it is blind without them");
    }
    let is_realtime = std::fs::read_to_string("/sys/kernel/realtime");
    let is_realtime = is_realtime.is_ok_and(|text| text.trim() == "1");
    let is_old = Roots::default().release().is_some_and(|it| it < WRITES_WITHOUT_SLEEP);
    (is_realtime && is_old).then_some("a realtime kernel before 6.12 could hang")
}

/// The programs of perf events.
const SAMPLE: &str = "sample";
const FAULT: &str = "fault";

/// What [`lifecycle`] attaches.
const LIFECYCLE: [&str; 2] = ["exec", "exit"];

/// The programs that [`all`] attaches, or [`lifecycle`] where allocations are recorded; of memory calls those
/// at the ends of functions, if there is a chance.
pub(super) fn programs(
    of_allocations: bool,
    without: &[OptionalProbe],
    has_functions: bool,
) -> Vec<&'static str> {
    let tracepoints = PROBES.iter().map(|probe| (probe.name, probe.program));
    let calls: Vec<_> = if has_functions {
        functions::CALLS.all_programs().collect()
    } else {
        let (_, step, finish) = chains::CALLS;
        vec![CALLS.program, step, finish]
    };
    let calls = calls.into_iter().map(|program| (CALLS.name, program));
    let events = [("faults", FAULT), ("samples", SAMPLE)];
    let wanted = |(name, program)| {
        let is_wanted = !of_allocations || LIFECYCLE.contains(&name);
        (is_wanted && !is_left_out(name, without)).then_some(program)
    };
    tracepoints.chain(calls).chain(events).filter_map(wanted).collect()
}

/// What came of attaching.
pub(super) struct Attached {
    pub(super) statuses: Vec<ProbeStatus>,
    /// How CPUs are sampled; `None` if they are not.
    pub(super) sampling: Option<Sampling>,
    /// Chains that were joined for it, to be kept as long.
    pub(super) chains: Vec<ProgramArray<MapData>>,
}

/// Attaches everything, the sampler behind what rewrites kernel code: those stalls would show up as the
/// workload's. What only looks around once comes last.
pub(super) fn all(
    ebpf: &mut Ebpf,
    frequency: u32,
    without: &[OptionalProbe],
    no_waits: Option<&'static str>,
    types: Result<&Btf, &str>,
) -> Attached {
    let why_not = |name: &str| match name {
        _ if is_left_out(name, without) => Some("it was left out"),
        WAITS => no_waits,
        _ => None,
    };
    let mut statuses = attach_each(ebpf, PROBES.iter(), why_not);
    let (memory, chains) = match why_not(CALLS.name) {
        Some(why) => (CALLS.status(Err(why.to_owned())), Vec::new()),
        None => calls(ebpf, types),
    };
    statuses.push(memory);
    let state = ProbeState::of(unless(why_not("faults"), || faults(ebpf)));
    let programs = vec![FAULT];
    let enables = "resident memory by stack";
    statuses.push(ProbeStatus { name: "faults", enables, programs, state });
    let sampling = sample(ebpf, frequency);
    let how = |it: &Sampling| format!("{} at {frequency} Hz on {} CPUs", it.event, it.cpus);
    let state = ProbeState::of(sampling.as_ref().map(how).map_err(Clone::clone));
    let programs = vec![SAMPLE];
    statuses.insert(0, ProbeStatus { name: "samples", enables: "CPU profiles", programs, state });
    let with_waits = statuses.iter().any(|probe| probe.name == WAITS && probe.is_on());
    statuses.extend(iterators(ebpf, !without.contains(&OptionalProbe::Memory), with_waits, types));
    Attached { statuses, sampling: sampling.ok(), chains }
}

/// Attaches to the ends of the calls' functions; where that fails, to the ends of all system calls.
fn calls(ebpf: &mut Ebpf, types: Result<&Btf, &str>) -> (ProbeStatus, Vec<ProgramArray<MapData>>) {
    let Probe { name, enables, .. } = CALLS;
    let at_ends = types.map_err(str::to_owned);
    let why = match at_ends.and_then(|types| functions::CALLS.attach(ebpf, types)) {
        Ok(chains) => {
            let state = ProbeState::On("at the ends of their functions".to_owned());
            let programs = functions::CALLS.programs().collect();
            return (ProbeStatus { name, enables, programs, state }, chains);
        }
        Err(why) => why,
    };
    let joined = chains::join(ebpf, chains::CALLS).map_err(|error| chain(&error));
    let attached = joined.and_then(|joined| attach(ebpf, &CALLS).map(|()| joined));
    let (result, chains) = match attached {
        Ok(joined) => (Ok(format!("at the ends of all system calls, as {why}")), vec![joined]),
        Err(why) => (Err(why), Vec::new()),
    };
    let status =
        ProbeStatus { name, enables, programs: vec![CALLS.program], state: ProbeState::of(result) };
    (status, chains)
}

/// What goes through all tasks: once now, and each time that somebody looks.
fn iterators(
    ebpf: &mut Ebpf,
    with_memory: bool,
    with_waits: bool,
    types: Result<&Btf, &str>,
) -> Vec<ProbeStatus> {
    let mut statuses = Vec::new();
    let mut tell = |name, program, enables, done: Result<(), String>| {
        let state = ProbeState::of(done.map(|()| String::new()));
        statuses.push(ProbeStatus { name, enables, programs: vec![program], state });
    };
    let types = types.map_err(str::to_owned);
    if with_memory {
        let visited = types.clone().and_then(|types| spaces::visit(ebpf, types));
        let enables = "memory calls of processes older than the recorder, from the first on";
        tell("spaces", spaces::PROGRAM, enables, visited);
    }
    if with_waits {
        let loaded = types.and_then(|types| iterators::load(ebpf, blocked::PROGRAM, types));
        let enables = "what threads have waited for since before the recorder began";
        tell(BLOCKED, blocked::PROGRAM, enables, loaded);
    }
    statuses
}

/// Attaches what tells that a process goes on as another, or ends: where nothing else is wanted.
pub(super) fn lifecycle(ebpf: &mut Ebpf) -> Attached {
    let probes = PROBES.iter().filter(|probe| LIFECYCLE.contains(&probe.name));
    Attached { statuses: attach_each(ebpf, probes, |_| None), sampling: None, chains: Vec::new() }
}

/// Whether a probe is not to be attached, by the user's wish.
fn is_left_out(name: &str, without: &[OptionalProbe]) -> bool {
    without.iter().any(|probe| probe.name() == name)
}

/// Attaches, unless something is said against it.
fn unless<T>(
    why_not: Option<&str>,
    attach: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    why_not.map_or_else(attach, |why| Err(why.to_owned()))
}

fn attach_each<'p>(
    ebpf: &mut Ebpf,
    probes: impl Iterator<Item = &'p Probe>,
    why_not: impl Fn(&str) -> Option<&'p str>,
) -> Vec<ProbeStatus> {
    probes.map(|probe| probe.status(unless(why_not(probe.name), || attach(ebpf, probe)))).collect()
}

fn attach(ebpf: &mut Ebpf, probe: &Probe) -> Result<(), String> {
    let name = probe.program;
    let program = loading::find(ebpf, name)?;
    raw_tracepoint(program, probe.tracepoint).map_err(|error| format!("{name}: {}", chain(&error)))
}

/// Detaches programs, and unloads them.
pub(super) fn detach(ebpf: &mut Ebpf, wanted: impl Fn(&str) -> bool) {
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| wanted(name)) {
        // Unloading closes the program's links as well. A program that was never loaded has
        // nothing to detach, which it reports as an error.
        let unloaded = match program {
            Program::PerfEvent(program) => program.unload(),
            Program::RawTracePoint(program) => program.unload(),
            Program::Iter(program) => program.unload(),
            Program::UProbe(program) => program.unload(),
            Program::FExit(program) => program.unload(),
            _ => Ok(()),
        };
        if let Err(error) = unloaded {
            debug!("{name}: {error}");
        }
    }
}

fn raw_tracepoint(program: &mut Program, tracepoint: &str) -> Result<(), ProgramError> {
    loading::load(program)?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.attach(tracepoint).map(drop)
}

/// The loaded program of a perf event.
fn perf_event<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut PerfEvent, String> {
    let said = |error: ProgramError| chain(&error);
    let program = loading::find(ebpf, name)?;
    loading::load(program).map_err(said)?;
    program.try_into().map_err(said)
}

/// Opens one perf event on each CPU.
fn sample(ebpf: &mut Ebpf, frequency: u32) -> Result<Sampling, String> {
    let frequency = u64::from(frequency.max(1));
    let period_ns = 1_000_000_000 / frequency;
    let program = perf_event(ebpf, SAMPLE)?;
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
    let program = perf_event(ebpf, FAULT)?;
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
            detach(ebpf, |name| name == FAULT);
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

/// What is between an error and the verifier's log.
const VERIFIER_LOG: &str = ". Verifier output:";

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
    // Not every refusal is the verifier's.
    let (said, log) = text.split_once(VERIFIER_LOG).unwrap_or((&text, ""));
    let lines: Vec<&str> = said.lines().chain(log.lines()).filter(says_why).collect();
    match lines.as_slice() {
        [first, .., before, last] if lines.len() > 4 => format!("{first} ... {before} {last}"),
        lines => lines.join(" "),
    }
}
