//! What the stages count becomes a [`Snapshot`].
//!
//! Must not: read anything itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holmes_common::counter::{CgroupTotals, Counter, Stream};
use holmes_common::limits::{MAX_EXES, MAX_PROCESSES};
use holmes_common::unwind::WalkEnd;

use super::snapshot::{CgroupSnapshot, Counts, MapSnapshot, ProbeSnapshot, Snapshot, StreamTotals};
use crate::capture::Totals;
use crate::kernel::{KernelCounts, MapUse, ProbeStatus, ProgramUse};
use crate::process::{Cgroup, ProcessStats};
use crate::store::StoreCounts;
use crate::symbolize::{DebugSkipped, NameStats, NamedBy, Unnamed};
use crate::unwind::{UnwindStats, compile::NoTable};

/// Everything that is shown, as the stages have it.
pub struct Gathered<'a> {
    /// Of the flight recorder.
    pub totals: &'a Totals,
    /// Of the probes.
    pub kernel: &'a KernelCounts,
    /// Whether each probe is on.
    pub probes: &'a [ProbeStatus],
    /// What the programs cost.
    pub programs: &'a [ProgramUse],
    /// How full the maps are.
    pub maps: &'a [MapUse],
    /// Records that reached user space, by stream.
    pub delivered: &'a BTreeMap<Stream, u64>,
    /// Of the process table.
    pub processes: ProcessStats,
    /// Of the unwinder's tables.
    pub unwind: UnwindStats,
    /// How frames were named, in all incidents.
    pub names: &'a NameStats,
    /// What became of the requests to a debuginfod server.
    pub fetches: Vec<(&'static str, u64)>,
    /// Of the dump folder.
    pub store: StoreCounts,
    /// Incidents that were lost because the desk was too far behind.
    pub desk_full: u64,
    /// Incidents over which the desk broke down.
    pub desk_broken: u64,
    /// Profiles that broke a rule of their format.
    pub invalid_profiles: u64,
    /// Bytes that the recording could not take.
    pub unrecorded_inputs: u64,
    /// The cgroups with what was counted of them, whether the user named them, and their memory.
    pub cgroups: &'a [(Arc<Cgroup>, CgroupTotals, bool, [u64; 2])],
    /// Cgroups and processes whose signals are read.
    pub tracked: u64,
}

impl Gathered<'_> {
    /// As it is shown.
    pub fn snapshot(&self) -> Snapshot {
        // What the window evicts early had been reported: a counter cannot take that back, so it is
        // shown among the drops.
        let samples = self.totals.samples.clone();
        Snapshot {
            samples: StreamTotals {
                taken: samples.taken,
                reported: samples.reported,
                lost: samples.lost,
            },
            records: Stream::ALL
                .into_iter()
                .filter(|stream| *stream != Stream::Samples)
                .map(|stream| (stream.name().to_owned(), self.stream(stream)))
                .collect(),
            stack_errors: self
                .counters(&[Counter::KernelStackFailed, Counter::KernelStackTruncated]),
            stack_walks: WalkEnd::ALL
                .into_iter()
                .filter(|end| *end != WalkEnd::NotWalked)
                .map(|end| (end.name().to_owned(), self.kernel.get(Counter::of_walk(end))))
                .collect(),
            drops: self.drops(),
            frames: self.frames(),
            debug_skipped: self.debug_skipped(),
            fetches: self.fetches.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            decisions: self
                .totals
                .decisions
                .iter()
                .map(|((signal, decision), count)| {
                    ((signal.name().to_owned(), (*decision).to_owned()), *count)
                })
                .collect(),
            captures: self.captures(),
            retired: [
                ("age", self.store.retired_by_age),
                ("bytes", self.store.retired_by_bytes),
                ("full_disk", self.store.retired_by_full_disk),
            ]
            .map(|(cause, count)| (cause.to_owned(), count))
            .into(),
            retention_failures: self.store.retention_failed,
            unwind_tables: self.unwind.tables,
            unwind_table_events: self.unwind_table_events(),
            unwind_seconds: self.unwind.compile_time,
            incidents: self.store.incidents,
            incident_bytes: self.store.bytes,
            window_bytes: self.totals.window.bytes as u64,
            tracked_cgroups: self.tracked,
            probes: self.probes.iter().map(|probe| self.probe(probe)).collect(),
            maps: self
                .maps
                .iter()
                .map(|map| MapSnapshot {
                    name: map.name.to_owned(),
                    entries: Some(map.entries),
                    max_entries: map.max_entries,
                })
                .chain(self.unwind_maps())
                .collect(),
            cgroups: self
                .cgroups
                .iter()
                .map(|(cgroup, totals, named_by_user, [resident_bytes, goroutines])| {
                    CgroupSnapshot {
                        id: cgroup.id.0,
                        path: cgroup.path.clone(),
                        named_by_user: *named_by_user,
                        activity: totals.into(),
                        resident_bytes: *resident_bytes,
                        goroutines: *goroutines,
                    }
                })
                .collect(),
        }
    }

    /// The records of a stream that is not kept in seconds: what was delivered is what there is.
    fn stream(&self, stream: Stream) -> StreamTotals {
        let lost: Counts = [
            ("ring_full", stream.ring_full()),
            ("no_scratch", stream.no_scratch()),
            ("no_chain", stream.no_chain()),
        ]
        .map(|(cause, counter)| (cause.to_owned(), self.kernel.get(counter)))
        .into();
        let reported = self.delivered.get(&stream).copied().unwrap_or(0);
        // Not the kernel's own count: that runs ahead by what is still in the ring buffer.
        let taken = reported + lost.values().sum::<u64>();
        StreamTotals { taken, reported, lost }
    }

    fn counters(&self, counters: &[Counter]) -> Counts {
        counters
            .iter()
            .map(|counter| (counter.name().to_owned(), self.kernel.get(*counter)))
            .collect()
    }

    /// How full the unwinder's maps are, by what was put there.
    fn unwind_maps(&self) -> impl Iterator<Item = MapSnapshot> {
        let unwind = &self.unwind;
        [
            ("ROWS", unwind.rows_used, unwind.rows_room),
            ("PAGES", unwind.pages_used, unwind.pages_room),
            ("EXES", unwind.executables, MAX_EXES.into()),
            ("MAPPINGS", unwind.mapping_entries, unwind.mapping_room),
            ("PROCESSES", unwind.processes, MAX_PROCESSES.into()),
        ]
        .into_iter()
        .map(|(name, entries, max_entries)| MapSnapshot {
            name: name.to_owned(),
            entries: Some(entries),
            max_entries,
        })
    }

    /// What became of unwind tables.
    fn unwind_table_events(&self) -> Counts {
        let unwind = &self.unwind;
        let failed = NoTable::NAMES.into_iter().zip(unwind.failed);
        [("made", unwind.compiled), ("evicted", unwind.evicted), ("no_room", unwind.no_room)]
            .into_iter()
            .chain(failed)
            .map(|(result, count)| (result.to_owned(), count))
            .collect()
    }

    /// What user space has counted beside the probes' counters.
    fn counted(&self, name: &str) -> u64 {
        self.totals.counters.get(name).copied().unwrap_or(0)
    }

    fn drops(&self) -> Counts {
        let mut drops = self.counters(&[
            Counter::CgroupTotalsFull,
            Counter::VerdictMapFull,
            Counter::SpaceUnknown,
            Counter::CgroupUnreadable,
            Counter::WaitEndsLost,
            Counter::WaitersFull,
        ]);
        let misses = self.programs.iter().map(|program| program.misses).sum();
        drops.extend(
            [
                ("program_recursion", misses),
                ("window_evicted", self.totals.window.evicted_later.cpu),
                ("timeline_evicted", self.totals.window.timeline.evicted),
                ("wait_not_followed", self.totals.window.waits.untracked),
                ("wait_end_not_seen", self.totals.window.waits.unended),
                ("waits_not_looked_at", self.counted("waits_not_looked_at")),
                ("waits_over_meanwhile", self.counted("waits_over_meanwhile")),
                ("wait_looks_failed", self.counted("wait_looks_failed")),
                ("memory_page_not_followed", self.totals.window.residents.untracked),
                ("memory_pages_thinned", self.totals.window.residents.thinned),
                ("memory_fork_not_followed", self.totals.window.residents.unfollowed_forks),
                ("process_maps_unreadable", self.processes.maps_failed),
                ("executable_unreadable", self.processes.files_unreadable),
                ("unwind_process_refused", self.unwind.processes_refused),
                ("unwind_queue_full", self.unwind.queue_overflows),
                ("unwind_file_not_open", self.unwind.not_open),
                ("unwind_executables_full", self.unwind.no_number),
                ("incident_queue_full", self.desk_full),
                ("incident_desk_broken", self.desk_broken),
                ("profile_invalid", self.invalid_profiles),
                ("input_not_recorded", self.unrecorded_inputs),
            ]
            .map(|(cause, count)| (cause.to_owned(), count)),
        );
        drops
    }

    fn frames(&self) -> Counts {
        let named = NamedBy::ALL.iter().map(|by| (by.name(), self.names.named(*by)));
        let unnamed = Unnamed::ALL.iter().map(|cause| (cause.name(), self.names.unnamed(*cause)));
        named.chain(unnamed).map(|(name, count)| (name.to_owned(), count)).collect()
    }

    fn debug_skipped(&self) -> Counts {
        let counted =
            |cause: &DebugSkipped| (cause.name().to_owned(), self.names.debug_skipped(*cause));
        DebugSkipped::ALL.iter().map(counted).collect()
    }

    fn captures(&self) -> Counts {
        let mut captures: Counts = self
            .totals
            .captures
            .iter()
            .map(|(result, count)| ((*result).to_owned(), *count))
            .collect();
        captures.insert("written".to_owned(), self.store.written);
        captures.insert("write_failed".to_owned(), self.store.failed);
        captures
    }

    fn probe(&self, probe: &ProbeStatus) -> ProbeSnapshot {
        let programs =
            self.programs.iter().filter(|program| probe.programs.contains(&&*program.name));
        let (runs, nanoseconds) = programs.fold((0, 0), |(runs, time), program| {
            (runs + program.runs, time + program.run_time_ns)
        });
        ProbeSnapshot {
            name: probe.name.to_owned(),
            up: probe.is_on(),
            runs,
            run_time: Duration::from_nanos(nanoseconds),
        }
    }
}
