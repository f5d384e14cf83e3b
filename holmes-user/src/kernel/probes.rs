//! The loaded probes: what is on, and the maps behind them.

use std::collections::BTreeSet;
use std::fmt;
use std::mem;

use aya::maps::{HashMap, MapData, ProgramArray, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use holmes_common::limits::{MAX_TARGETS, MAX_VERDICTS, MIN_RING_BYTES};
use tracing::{debug, warn};

use super::attach;
use super::chains;
use super::error::KernelError;
use super::functions;
use super::globals::Globals;
use super::{OptionalProbe, ProbePlan, TargetFilter, loading, object, types};

/// The maps that are only used where allocations are recorded.
const ALLOCATION_MAPS: [&str; 2] = ["ALLOCATING", "LIVE"];

/// Which event drives the sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleEvent {
    /// The hardware's cycle counter.
    Cycles,
    /// The kernel's CPU clock, where there is no hardware counter.
    CpuClock,
}

impl fmt::Display for SampleEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cycles => "hardware cycles",
            Self::CpuClock => "cpu-clock",
        })
    }
}

/// How CPUs are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// By which event.
    pub event: SampleEvent,
    /// On how many CPUs.
    pub cpus: usize,
    /// CPU time that one sample stands for, in nanoseconds.
    pub period_ns: u64,
}

/// Whether a probe is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// It is; with a word on how.
    On(String),
    /// It is not; why, and what the user could do.
    Off(String),
}

impl ProbeState {
    /// What came of attaching it: a word on how, or why not.
    pub(super) fn of(attached: Result<String, String>) -> Self {
        attached.map_or_else(Self::Off, Self::On)
    }
}

/// One probe as the user knows it: what it observes, whatever programs it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeStatus {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// What is missing without it.
    pub enables: &'static str,
    /// The programs it takes.
    pub programs: Vec<&'static str>,
    /// Whether it is attached.
    pub state: ProbeState,
}

impl ProbeStatus {
    /// Whether the probe is attached.
    pub fn is_on(&self) -> bool {
        matches!(self.state, ProbeState::On(_))
    }
}

/// The probes, loaded and attached. Dropping it detaches them.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    /// Held, not used: the kernel empties such an array when nobody holds it.
    chains: Vec<ProgramArray<MapData>>,
    /// The kernel's types or why there are none, until everything is attached.
    types: Result<Btf, String>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// `None` where CPUs are not sampled.
    frequency: Option<u32>,
    without: Vec<OptionalProbe>,
    /// Why the probe of waits must not be attached, if so.
    no_waits: Option<&'static str>,
    statuses: Vec<ProbeStatus>,
    sampling: Option<Sampling>,
}

impl Probes {
    /// Loads the probes and points them at the target. Nothing is observed before [`Self::attach`].
    ///
    /// # Errors
    /// The kernel refuses the maps, or lacks what the target needs.
    pub fn load(plan: &ProbePlan) -> Result<Self, KernelError> {
        let mut globals = Globals::of(plan)?;
        let kernel_types = match plan.allocation_interval {
            Some(_) => Err("nothing needs them".to_owned()),
            None => types::read(),
        };
        let (mut ebpf, refused) = load(plan, &globals, kernel_types.as_ref().ok())?;
        if let Some(name) = refused.first().filter(|_| globals.allow_plain_loads()) {
            debug!("the kernel refuses {name}: once more without plain loads");
            globals.forbid_plain_loads();
            drop(ebpf);
            (ebpf, _) = load(plan, &globals, kernel_types.as_ref().ok())?;
        }

        point_at(&mut ebpf, &plan.target)?;
        // The log's map is taken out of the object only if somebody reads it.
        let logger = plan.probe_log.then(|| EbpfLogger::init(&mut ebpf)).and_then(|logger| {
            logger.map_err(|error| warn!("the probes' own log is not available: {error}")).ok()
        });
        let of_allocations = plan.allocation_interval.is_some();
        let chains = chains::join_all(&mut ebpf, of_allocations, &plan.without)?;
        let frequency = (!of_allocations).then_some(plan.frequency);
        Ok(Self {
            ebpf,
            chains,
            types: kernel_types,
            logger,
            frequency,
            without: plan.without.clone(),
            no_waits: attach::no_waits(globals.know_tasks()),
            statuses: Vec::new(),
            sampling: None,
        })
    }

    /// Attaches each probe on its own, the sampler last; where allocations are recorded, only what
    /// tells how the process goes on.
    ///
    /// # Errors
    /// Only where nothing works: a probe that does not attach is off, see [`Self::statuses`].
    pub fn attach(&mut self) -> Result<(), KernelError> {
        let kept = mem::replace(&mut self.types, Err("they were let go of".to_owned()));
        let attached = match self.frequency {
            Some(frequency) => {
                let types = kept.as_ref().map_err(String::as_str);
                attach::all(&mut self.ebpf, frequency, &self.without, self.no_waits, types)
            }
            None => attach::lifecycle(&mut self.ebpf),
        };
        types::let_go(kept);
        let attach::Attached { statuses, sampling, chains } = attached;
        self.chains.extend(chains);
        if statuses.iter().all(|status| !status.is_on()) {
            let first = statuses.into_iter().find_map(|status| match status.state {
                ProbeState::Off(why) => Some(why),
                ProbeState::On(_) => None,
            });
            return Err(KernelError::NothingAttached { first: first.unwrap_or_default() });
        }
        (self.statuses, self.sampling) = (statuses, sampling);
        Ok(())
    }

    /// Which probes are on, and why others are off.
    pub fn statuses(&self) -> &[ProbeStatus] {
        &self.statuses
    }

    /// Whether a probe is on.
    pub fn is_on(&self, probe: OptionalProbe) -> bool {
        self.statuses.iter().any(|status| status.name == probe.name() && status.is_on())
    }

    /// How CPUs are sampled; `None` if they are not.
    pub fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// Takes the ring buffer out, for `collect`. Works once.
    ///
    /// # Errors
    /// If the object has no such map, or it was taken before.
    pub fn take_records(&mut self) -> Result<RingBuf<MapData>, KernelError> {
        const NAME: &str = "RECORDS";
        let map = self.ebpf.take_map(NAME).ok_or(KernelError::NoMap(NAME))?;
        RingBuf::try_from(map).map_err(|source| KernelError::Map { name: NAME, source })
    }

    /// Detaches every probe, so that nothing more is taken: what is in the ring buffer is all
    /// there will be.
    pub fn detach(&mut self) {
        attach::detach(&mut self.ebpf, |_| true);
    }

    /// Makes these cgroups the target: a named one was removed and made again. The others leave the
    /// map, or restarts would fill it in the end.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn follow_cgroups(&mut self, ids: &BTreeSet<u64>) -> Result<(), KernelError> {
        let mut followed = set::<u64>(&mut self.ebpf, "TARGET_CGROUPS")?;
        for id in keys(&followed, MAX_TARGETS).difference(ids) {
            // One that cannot be removed is gone as a cgroup all the same.
            let _ = followed.remove(id);
        }
        fill(&mut self.ebpf, "TARGET_CGROUPS", ids.iter().copied())?;
        // Verdicts on the new cgroups and what is below them may have been passed already.
        let mut verdicts = set::<u64>(&mut self.ebpf, "VERDICTS")?;
        for id in keys(&verdicts, 2 * MAX_VERDICTS) {
            // The map may have pushed it out by itself meanwhile.
            let _ = verdicts.remove(&id);
        }
        Ok(())
    }

    /// Takes a process out of the target: from here on nothing is taken of it.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn leave_process(&mut self, pid: u32) -> Result<(), KernelError> {
        let mut followed = set::<u32>(&mut self.ebpf, "TARGET_PIDS")?;
        followed.remove(&pid).map_err(|source| KernelError::Map { name: "TARGET_PIDS", source })
    }

    /// Passes on what the probes have logged, if their log is on.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

/// Makes the maps and has the kernel check the programs. Returns those that it refuses.
fn load(
    plan: &ProbePlan,
    globals: &Globals,
    types: Option<&Btf>,
) -> Result<(Ebpf, Vec<&'static str>), KernelError> {
    let mut loader = EbpfLoader::new();
    // No probe has relocations against the kernel's types: let go of aya's copy of them.
    loader
        .btf(None)
        .map_max_entries("RECORDS", plan.ring_bytes)
        .map_max_entries("ROWS", plan.unwind_rows);
    globals.tell(&mut loader);
    if !plan.probe_log {
        // One page instead of 128 KiB for a log that nobody reads.
        loader.map_max_entries("AYA_LOGS", MIN_RING_BYTES);
    }
    let of_allocations = plan.allocation_interval.is_some();
    if !of_allocations {
        // Five MiB for what nobody looks at.
        for name in ALLOCATION_MAPS {
            loader.map_max_entries(name, 1);
        }
    }
    let mut ebpf =
        loader.load(object::bytes()).map_err(|error| KernelError::Load(Box::new(error)))?;
    let mut programs = chains::programs(of_allocations, &plan.without);
    let functions = types.filter(|it| functions::try_one(&mut ebpf, it).is_ok());
    programs.extend(attach::programs(of_allocations, &plan.without, functions.is_some()));
    let mut refused = loading::load_ahead(&mut ebpf, &programs, functions);
    // For those there is another place.
    refused.retain(|name| functions::CALLS.all_programs().all(|it| it != *name));
    Ok((ebpf, refused))
}

/// Fills the target maps. Before anything attaches, so that no task is judged too early.
fn point_at(ebpf: &mut Ebpf, target: &TargetFilter) -> Result<(), KernelError> {
    match target {
        TargetFilter::Host => Ok(()),
        TargetFilter::Cgroups(ids) => fill(ebpf, "TARGET_CGROUPS", ids.iter().copied()),
        TargetFilter::Processes(ids) => fill(ebpf, "TARGET_PIDS", ids.iter().copied()),
    }
}

/// Adds keys to a map that is used as a set.
fn fill<K: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    keys: impl Iterator<Item = K>,
) -> Result<(), KernelError> {
    let mut map = set(ebpf, name)?;
    for key in keys {
        map.insert(key, 1, 0).map_err(|source| KernelError::Map { name, source })?;
    }
    Ok(())
}

/// A map that is used as a set.
fn set<'a, K: Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<HashMap<&'a mut MapData, K, u8>, KernelError> {
    let map = ebpf.map_mut(name).ok_or(KernelError::NoMap(name))?;
    HashMap::try_from(map).map_err(|source| KernelError::Map { name, source })
}

/// What is in the set. The walk begins anew where the kernel has just removed an entry, so it is
/// bounded.
fn keys(set: &HashMap<&mut MapData, u64, u8>, at_most: u32) -> BTreeSet<u64> {
    set.keys().take(at_most as usize).filter_map(Result::ok).collect()
}
