//! The parts of `incident.json` that say where memory is, which process grew, and who was killed.
//!
//! Must not: look at anything but the incident.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::rfc3339;
use crate::capture::Incident;
use crate::signals::{Around, CgroupMemory, KernelKill, MemoryReport, ProcessMemory};
use crate::window::{Cut, ProfileKind};

/// Processes named as having grown, those that grew most first.
const MAX_GROWN: usize = 10;

/// Where a target's memory is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryDocument {
    /// Bytes resident of all its processes at the window's end; pages that two share count twice.
    pub resident_bytes: u64,
    /// Processes that have some.
    pub processes: u64,
    /// Bytes that the memory profile attributes to stacks: what was touched while the recorder ran
    /// and is in use.
    pub attributed_bytes: i64,
    /// Bytes of touched memory that one sample stands for, on average.
    pub sampled_every_bytes: u64,
    /// The processes whose memory in use grew most since the onset.
    pub grown: Vec<GrownDocument>,
    /// The largest processes.
    pub largest: Vec<ProcessMemory>,
    /// What the memory controller counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupMemory>,
    /// Who had memory where it ran out, if that is not the target itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<Around>,
}

/// A process whose memory in use grew, by samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrownDocument {
    /// Its id, in the initial pid namespace.
    pub pid: u32,
    /// The name of one of its threads.
    pub comm: String,
    /// Bytes touched since the onset and in use at the window's end.
    pub grown_bytes: i64,
    /// Bytes in use at the window's end.
    pub in_use_bytes: i64,
}

/// A process that the kernel killed for memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VictimDocument {
    /// Its id, in the initial pid namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// When the kernel chose it, RFC 3339 in UTC.
    pub time: String,
    /// Bytes that the memory profile attributes to it.
    pub attributed_bytes: i64,
    /// What the kernel's log says of it, where that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelKill>,
}

/// The victims of an incident.
pub(super) fn victims(incident: &Incident) -> Vec<VictimDocument> {
    let stem = ProfileKind::Memory.stem();
    let cut = incident.cuts.iter().find(|it| it.stem == stem).map(|it| &it.cut);
    let in_use = cut.map(in_use).unwrap_or_default();
    let victims = incident.victims.iter().map(|victim| {
        let known = in_use.get(&victim.pid);
        let said = victim.kernel.as_ref().map(|kernel| kernel.comm.clone());
        let seen = Some(victim.comm.clone()).filter(|comm| !comm.is_empty());
        VictimDocument {
            pid: victim.pid,
            comm: said.or(seen).or(known.map(|it| it.1.clone())).unwrap_or_default(),
            time: rfc3339(incident.trigger_unix_ns.saturating_add(
                // Later ones joined the first one's incident.
                victim.time.0.saturating_sub(incident.trigger.0),
            )),
            attributed_bytes: known.map_or(0, |it| it.0),
            kernel: victim.kernel.clone(),
        }
    });
    victims.collect()
}

impl MemoryDocument {
    /// Of an incident that is about memory; `None` of another.
    pub(super) fn of(incident: &Incident) -> Option<Self> {
        let report = incident.memory.as_ref()?;
        let cut = |stem: &str| {
            let mut cuts = incident.cuts.iter().filter(|it| it.cut.kind == ProfileKind::Memory);
            cuts.find(|it| it.stem == stem).map(|it| &it.cut)
        };
        let stem = ProfileKind::Memory.stem();
        let (whole, base) = (cut(stem)?, cut(&format!("{stem}.base"))?);
        let MemoryReport { processes, resident_bytes, largest, cgroup, around } = report.clone();
        Some(Self {
            resident_bytes,
            processes,
            attributed_bytes: in_use(whole).values().map(|(bytes, _)| bytes).sum(),
            sampled_every_bytes: incident.memory_interval,
            grown: grown(whole, base),
            largest,
            cgroup,
            around,
        })
    }
}

/// Bytes in use by process, and the name of a thread.
fn in_use(cut: &Cut) -> BTreeMap<u32, (i64, String)> {
    let mut sums: BTreeMap<u32, (i64, String)> = BTreeMap::new();
    for sample in &cut.samples {
        let sum = sums.entry(sample.owner.tgid).or_insert_with(|| (0, sample.owner.comm.text()));
        sum.0 = sum.0.saturating_add(sample.values[3]);
    }
    sums
}

fn grown(whole: &Cut, base: &Cut) -> Vec<GrownDocument> {
    let before = in_use(base);
    let mut grown: Vec<GrownDocument> = in_use(whole)
        .into_iter()
        .map(|(pid, (in_use_bytes, comm))| {
            let before = before.get(&pid).map_or(0, |(bytes, _)| *bytes);
            GrownDocument { pid, comm, grown_bytes: in_use_bytes - before, in_use_bytes }
        })
        .filter(|process| process.grown_bytes > 0)
        .collect();
    grown.sort_by(|one, other| {
        other.grown_bytes.cmp(&one.grown_bytes).then_with(|| one.pid.cmp(&other.pid))
    });
    grown.truncate(MAX_GROWN);
    grown
}
