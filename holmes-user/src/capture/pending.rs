//! A spike whose after-window is still open, and the incident that is cut when it closes.
//!
//! Must not: decide when that is (the recorder does).

use super::incident::{Incident, IncidentCut, Reason};
use super::input::{GoHeapLook, GoroutineLook, LookWanted};
use super::losses::{CounterHistory, losses};
use super::onset::first_of_run;
use super::oom::OomVictim;
use crate::collect::Nanos;
use crate::rules::FiredRule;
use crate::signals::{MemoryReport, Signal, Target};
use crate::window::{Owner, ProfileKind, Window, go_heap_cut, goroutine_cut};

/// A capture under way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) target: Target,
    /// Which signal fired; `None` for a manual trigger.
    pub(super) signal: Option<Signal>,
    pub(super) rule: Option<FiredRule>,
    pub(super) reason: Reason,
    pub(super) previous: Vec<f64>,
    pub(super) value: f64,
    pub(super) start: Nanos,
    /// When the signal was last seen quiet; the trigger itself for a manual one.
    pub(super) quiet: Nanos,
    pub(super) trigger: Nanos,
    pub(super) trigger_unix_ns: u64,
    pub(super) end: Nanos,
    /// Who was killed; for [`Reason::Oom`] only.
    pub(super) victims: Vec<OomVictim>,
    /// Where the target's memory was, when somebody looked.
    pub(super) report: Option<MemoryReport>,
    /// The target's goroutines at the trigger, when somebody looked.
    pub(super) goroutines: Option<GoroutineLook>,
    /// The heap profiles of its Go programs, when somebody looked and there were some.
    pub(super) go_heap: Option<GoHeapLook>,
}

/// What a sample stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Periods {
    /// Of a CPU sample, nanoseconds of CPU time.
    pub(super) sample_ns: u64,
    /// Of a fault sample, bytes on average.
    pub(super) memory: u64,
}

/// The series that shows when a signal rose: a profile, and which of its two values.
const fn series_of(signal: Signal) -> (ProfileKind, usize) {
    match signal {
        Signal::Cpu => (ProfileKind::Cpu, 1),
        Signal::Memory | Signal::Leak | Signal::Psi => (ProfileKind::Memory, 1),
        // Goroutines leave no trace in the window: what it has of a leak of them is their stacks.
        Signal::Threads | Signal::Goroutines => (ProfileKind::Threads, 0),
    }
}

/// The profiles of a signal's incidents.
const fn profiles_of(signal: Option<Signal>) -> &'static [ProfileKind] {
    match signal {
        // Those of the goroutines come from a look at them.
        Some(Signal::Cpu | Signal::Goroutines) => &[ProfileKind::Cpu],
        Some(Signal::Memory | Signal::Leak | Signal::Psi) => {
            &[ProfileKind::Cpu, ProfileKind::Memory, ProfileKind::Mmap]
        }
        Some(Signal::Threads) => &[ProfileKind::Cpu, ProfileKind::Threads, ProfileKind::Blocked],
        None => &ProfileKind::ALL,
    }
}

impl Pending {
    /// The profiles of an incident: where the CPU time went, always, and what it is about.
    fn profiles(&self) -> &'static [ProfileKind] {
        match self.reason {
            Reason::Oom => profiles_of(Some(Signal::Memory)),
            _ => profiles_of(self.signal),
        }
    }

    /// What is to be looked at before it is cut.
    pub(super) fn look_wanted(&self) -> LookWanted {
        LookWanted {
            target: self.target.clone(),
            residency: self.shows_residency(),
            waits: self.shows(ProfileKind::Blocked),
            victims: self.victims.iter().map(|victim| victim.pid).collect(),
        }
    }

    /// Whether its target's memory is looked at.
    pub(super) fn shows_residency(&self) -> bool {
        self.reason != Reason::Oom && self.shows(ProfileKind::Memory)
    }

    fn shows(&self, kind: ProfileKind) -> bool {
        self.profiles().contains(&kind)
    }

    /// Whether it is about goroutines, and nobody has looked at them yet.
    pub(super) fn wants_goroutines(&self) -> bool {
        self.signal == Some(Signal::Goroutines) && self.goroutines.is_none()
    }

    /// Cuts the incident. What the window no longer reaches back to is not part of its span.
    pub(super) fn close(
        self,
        window: &Window,
        counters: &CounterHistory,
        periods: Periods,
    ) -> Incident {
        let wanted = |owner: &Owner| self.target.holds(owner.tgid, &owner.cgroup);
        let start = self.start.max(window.reach()).min(whole_second(self.trigger));
        let onset = self.onset(window, &wanted, start);
        // A victim lives a little longer than its kill, and not to the end of the second.
        let living_at = if self.reason == Reason::Oom { self.trigger } else { self.end };
        let mut cuts = Vec::new();
        for &kind in self.profiles() {
            let whole = window.cut_base(kind, &wanted, start, self.end, living_at);
            let base = window.cut_base(kind, &wanted, start, onset, living_at);
            cuts.push(IncidentCut { stem: kind.stem().to_owned(), cut: whole });
            cuts.push(IncidentCut { stem: format!("{}.base", kind.stem()), cut: base });
        }
        if let Some(look) = &self.goroutines {
            let cut = goroutine_cut(&look.processes, self.trigger, look.time);
            cuts.push(IncidentCut { stem: ProfileKind::Goroutines.stem().to_owned(), cut });
        }
        let mut go_heaps = Vec::new();
        if let Some(GoHeapLook { time, processes, .. }) = &self.go_heap {
            let cut = go_heap_cut(processes, *time);
            cuts.push(IncidentCut { stem: ProfileKind::GoHeap.stem().to_owned(), cut });
            go_heaps.extend(processes.iter().map(|process| process.note.clone()));
        }
        let timeline = match self.shows(ProfileKind::Blocked) {
            true => window.timeline(&wanted, start, self.end),
            false => None,
        };
        let tally = window.tally(start, self.end);
        let counted = counters.grown_in(start, self.end);
        Incident {
            losses: losses(tally.held.cpu, &tally, &counted),
            target: self.target,
            signal: self.signal,
            rule: self.rule,
            reason: self.reason,
            victims: self.victims,
            previous: self.previous,
            value: self.value,
            start,
            onset,
            trigger: self.trigger,
            end: self.end,
            trigger_unix_ns: self.trigger_unix_ns,
            sample_period_ns: periods.sample_ns,
            memory_interval: periods.memory,
            memory: self.report,
            go_heaps,
            cuts,
            timeline,
        }
    }

    /// When the spike began: a whole second, at or after `start`, at or before the trigger.
    fn onset(&self, window: &Window, wanted: &dyn Fn(&Owner) -> bool, start: Nanos) -> Nanos {
        let fallback = whole_second(self.quiet).clamp(start, whole_second(self.trigger));
        let (kind, value) = match (self.signal, self.reason) {
            (Some(signal), _) => series_of(signal),
            (None, Reason::Oom) => series_of(Signal::Memory),
            (None, _) => return fallback,
        };
        let series: Vec<i64> = window
            .series(kind, wanted, start, self.trigger)
            .iter()
            .map(|values| values[value])
            .collect();
        let quiet = fallback.second().saturating_sub(start.second());
        match first_of_run(&series, usize::try_from(quiet).unwrap_or(usize::MAX)) {
            Some(index) => Nanos::from_secs(start.second() + index as u64),
            None => fallback,
        }
    }
}

/// The second that a moment lies in: where its bucket begins.
pub(super) const fn whole_second(time: Nanos) -> Nanos {
    Nanos(time.0 - time.0 % 1_000_000_000)
}
