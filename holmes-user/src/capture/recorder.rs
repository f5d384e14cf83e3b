//! The flight recorder: takes every input in order, and returns the incidents that it completes.
//!
//! Must not: do I/O, read a clock, or depend on anything but its inputs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::incident::{Incident, Losses, Reason};
use super::input::{CaptureSettings, Input, LookWanted, MemoryLook, Start};
use super::losses::{CounterHistory, losses};
use super::pending::{Pending, Periods, whole_second};

use crate::collect::Nanos;
use crate::process::Attributed;
use crate::rules::{Cause, Decision, RuleBook, Spike};
use crate::settings::WindowSettings;
use crate::signals::{Reading, Signal, SignalFrame, Target};
use crate::window::{Fate, Window, WindowStats};

/// Captures under way at the same time. Each is cut at once when it closes, so this bounds how many
/// incidents wait to be named and written.
pub const MAX_PENDING: usize = 32;

/// How long after the end of its span an incident is cut: the ring buffer is drained every 100 ms,
/// and what happened in the span must have arrived.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Seconds of window beyond look-back, interval and after-window: both ends of a span are rounded
/// to whole seconds, and a capture closes with the first tick after [`SETTLE`].
const SPAN_MARGIN: Duration = Duration::from_secs(5);

/// Why a capture that somebody asked for was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many at the same time.
    #[error("{MAX_PENDING} captures are under way already: try again when one of them has closed")]
    PendingFull,
    /// Too many in the last hour. Whoever reaches the trigger must not be able to push the
    /// incidents of the rules off the disk.
    #[error("the incidents of this hour are used up: --max-incidents-per-hour allows more")]
    Budget,
    /// Too many were killed for memory at the same time.
    #[error("its incident names as many victims as it may")]
    Victims,
}

/// What the recorder has counted since it started, for `/metrics` and for the closing line.
#[derive(Clone, Debug)]
pub struct Totals {
    /// CPU samples: taken = reported + lost, where `reported` have reached the window and the
    /// losses are those before it and at its door. What the window evicts later had been reported:
    /// see [`WindowStats`], and [`Totals::samples_kept`].
    pub samples: Losses,
    /// `samples_taken` as the probes counted it. More than `samples.taken` by what is in the ring
    /// buffer at the moment.
    pub kernel_taken: u64,
    /// All counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Decisions by signal and by what was decided.
    pub decisions: BTreeMap<(Signal, &'static str), u64>,
    /// Captures by result: `rule`, `manual` and `oom` (opened), `closed`, `pending_full`, `budget`
    /// and `victims_full` (refused).
    pub captures: BTreeMap<&'static str, u64>,
    /// Captures under way.
    pub pending: usize,
    /// The window.
    pub window: WindowStats,
}

impl Totals {
    /// The samples, with those that the window evicted early among the lost: what is true of a
    /// profile cut over the whole run.
    pub fn samples_kept(&self) -> Losses {
        let mut kept = self.samples.clone();
        let evicted = self.window.evicted_later.cpu;
        kept.reported -= evicted.min(kept.reported);
        if evicted > 0 {
            *kept.lost.entry("window_evicted".to_owned()).or_insert(0) += evicted;
        }
        kept
    }
}

/// The recorder's state machine.
///
/// The window's span is the one asked for, or look-back + after-window + interval and a margin of
/// five seconds if that is longer: an incident's beginning must still be there when it is cut.
#[derive(Debug)]
pub struct FlightRecorder {
    settings: CaptureSettings,
    window_settings: WindowSettings,
    sample_period_ns: u64,
    memory_interval: u64,
    started: Nanos,
    /// The wall clock at a moment of the monotonic one.
    clock: (Nanos, u64),
    window: Window,
    rules: RuleBook,
    /// When each target's signal was last seen quiet. Holds the targets of the last frame only.
    quiet: BTreeMap<(Target, Signal), Nanos>,
    pub(super) pending: Vec<Pending>,
    counters: CounterHistory,
    decisions: BTreeMap<(Signal, &'static str), u64>,
    captures: BTreeMap<&'static str, u64>,
}

impl FlightRecorder {
    /// A recorder that has seen nothing yet.
    pub fn new(start: Start) -> Self {
        let mut window = Window::new(&start.window, start.sample_period_ns);
        window.set_span(span(&start.window, &start.capture));
        window.advance(start.time);
        Self {
            rules: RuleBook::new(start.capture.rules),
            settings: start.capture,
            window_settings: start.window,
            sample_period_ns: start.sample_period_ns,
            memory_interval: start.memory_interval,
            started: start.time,
            clock: (start.time, start.unix_ns),
            window,
            quiet: BTreeMap::new(),
            pending: Vec::new(),
            counters: CounterHistory::new(start.time),
            decisions: BTreeMap::new(),
            captures: BTreeMap::new(),
        }
    }

    /// Takes one input in; returns the incidents that it completes.
    pub fn accept(&mut self, input: Input) -> Vec<Incident> {
        match input {
            Input::Observation(attributed) => {
                // What became of it is counted in the window's tallies.
                let _ = self.observe(attributed);
            }
            Input::Signals(frame) => return self.read_signals(frame),
            Input::Counters(counters) => self.counters.read(counters),
            Input::Clock { monotonic, unix_ns } => self.clock = (monotonic, unix_ns),
            Input::Memory(look) => self.looked(look),
            Input::OomKill(kill) => {
                // As below.
                let _ = self.killed(kill);
            }
            Input::Trigger { time, target } => {
                // A refusal is counted; whoever needs to know calls `trigger` itself.
                let _ = self.trigger(time, target);
            }
            Input::Reload(settings) => self.reload(settings),
            // Names change no decision: they are for whoever shows the incident.
            Input::Names(_) => {}
            Input::Tick(now) => return self.tick(now),
            Input::End(now) => return self.finish(now),
        }
        Vec::new()
    }

    /// Takes an observation in: the fast path of [`Self::accept`]. It never completes an incident.
    pub fn observe(&mut self, attributed: Attributed) -> Fate {
        self.window.observe(attributed)
    }

    /// Runs the rules over a frame.
    pub fn read_signals(&mut self, frame: SignalFrame) -> Vec<Incident> {
        let incidents = self.tick(frame.time);
        let mut quiet = BTreeMap::new();
        for reading in frame.readings {
            let Reading { target, signal, value } = &reading;
            let (key, signal) = ((target.clone(), *signal), *signal);
            if !value.is_finite() {
                self.count_decision(signal, "unreadable");
                continue;
            }
            let decision = self.rules.decide(frame.time, target, signal, *value, frame.host_cpu);
            self.count_decision(signal, decision.name());
            let mut last_quiet = self.quiet.get(&key).copied();
            match decision {
                Decision::Quiet => last_quiet = Some(frame.time),
                Decision::Suppressed(_) => {}
                Decision::Fire(spike) => {
                    self.open_for_rule(frame.time, reading, spike, last_quiet);
                }
            }
            if let Some(last_quiet) = last_quiet {
                quiet.insert(key, last_quiet);
            }
        }
        self.quiet = quiet;
        incidents
    }

    fn count_decision(&mut self, signal: Signal, decision: &'static str) {
        *self.decisions.entry((signal, decision)).or_insert(0) += 1;
    }

    fn open_for_rule(
        &mut self,
        now: Nanos,
        reading: Reading,
        spike: Spike,
        last_quiet: Option<Nanos>,
    ) {
        let reason = match spike.cause {
            Cause::Abs => Reason::Abs,
            Cause::Diff { average } => Reason::Diff { average },
        };
        let pending = Pending {
            signal: Some(reading.signal),
            rule: Some(spike.rule),
            reason,
            previous: spike.previous,
            value: reading.value,
            quiet: last_quiet.unwrap_or_else(|| now.minus(self.settings.interval)),
            ..self.unasked(now, reading.target)
        };
        if self.open(pending).is_ok() {
            *self.captures.entry("rule").or_insert(0) += 1;
        }
    }

    /// Opens an incident that somebody asked for; of the whole host if no target is named.
    ///
    /// # Errors
    /// [`Refused`]; it is counted.
    pub fn trigger(&mut self, now: Nanos, target: Option<Target>) -> Result<(), Refused> {
        let pending = self.unasked(now, target.unwrap_or(Target::Host));
        self.open_counted(pending, "manual")
    }

    /// Opens an incident that no rule decided, within the hour's budget.
    pub(super) fn open_counted(
        &mut self,
        pending: Pending,
        result: &'static str,
    ) -> Result<(), Refused> {
        if self.pending.len() < MAX_PENDING && !self.rules.spend(pending.trigger) {
            return Err(self.refuse(Refused::Budget, "budget"));
        }
        self.open(pending)?;
        *self.captures.entry(result).or_insert(0) += 1;
        Ok(())
    }

    /// A capture that begins now, by no rule.
    pub(super) fn unasked(&self, now: Nanos, target: Target) -> Pending {
        let end = now.plus(self.settings.after);
        Pending {
            target,
            signal: None,
            rule: None,
            reason: Reason::Manual,
            previous: Vec::new(),
            value: 0.0,
            start: whole_second(now.minus(self.settings.lookback).max(self.started)),
            quiet: now,
            trigger: now,
            trigger_unix_ns: self.unix_ns(now),
            end: second_from(end),
            victims: Vec::new(),
            report: None,
        }
    }

    fn open(&mut self, pending: Pending) -> Result<(), Refused> {
        if self.pending.len() >= MAX_PENDING {
            return Err(self.refuse(Refused::PendingFull, "pending_full"));
        }
        self.pending.push(pending);
        Ok(())
    }

    /// Counts a refusal, and hands it on.
    pub(super) fn refuse(&mut self, why: Refused, result: &'static str) -> Refused {
        *self.captures.entry(result).or_insert(0) += 1;
        why
    }

    fn unix_ns(&self, time: Nanos) -> u64 {
        let (monotonic, unix_ns) = self.clock;
        if time >= monotonic {
            unix_ns.saturating_add(time.0 - monotonic.0)
        } else {
            unix_ns.saturating_sub(monotonic.0 - time.0)
        }
    }

    /// Lets time pass: cuts the incidents whose after-window has closed and settled, in the order
    /// in which they were opened.
    pub fn tick(&mut self, now: Nanos) -> Vec<Incident> {
        let incidents = self.close(|pending| deadline(pending) <= now);
        // After the cuts, not before: a late tick must not cost an incident its first seconds.
        self.window.advance(now);
        self.counters.expire(self.window.reach());
        incidents
    }

    /// What is to be looked at before [`Self::tick`] cuts what is due now.
    pub fn looks_due(&self, now: Nanos) -> Vec<LookWanted> {
        let due = self.pending.iter().filter(|pending| deadline(pending) <= now);
        due.filter(|pending| pending.asks_for_memory()).map(Pending::look_wanted).collect()
    }

    fn looked(&mut self, look: MemoryLook) {
        let MemoryLook { time, target, gone, report, kills } = look;
        for (tgid, addresses) in &gone {
            self.window.pages_gone(*tgid, addresses);
        }
        self.told_of(&kills);
        let due = self.pending.iter_mut().filter(|pending| deadline(pending) <= time);
        // Of a kill, what was seen right after it counts.
        for pending in due.filter(|it| it.target == target && it.reason != Reason::Oom) {
            pending.report.clone_from(&report);
        }
    }

    /// How long before a kill memory is taken to have been as usual, where nothing else is known.
    pub(super) fn quiet_before_oom(&self) -> Duration {
        self.settings.interval.saturating_mul(2)
    }

    /// When the next capture is due; `tick` does nothing about captures before that.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.pending.iter().map(deadline).min()
    }

    /// Cuts every capture under way at once: the recorder is stopping.
    pub fn finish(&mut self, now: Nanos) -> Vec<Incident> {
        for pending in &mut self.pending {
            pending.end = pending.end.min(second_from(now)).max(second_from(pending.trigger));
        }
        self.close(|_| true)
    }

    fn close(&mut self, due: impl Fn(&Pending) -> bool) -> Vec<Incident> {
        let (due, open) = std::mem::take(&mut self.pending).into_iter().partition(due);
        self.pending = open;
        let due: Vec<Pending> = due;
        let periods = Periods { sample_ns: self.sample_period_ns, memory: self.memory_interval };
        due.into_iter()
            .map(|pending| {
                *self.captures.entry("closed").or_insert(0) += 1;
                pending.close(&self.window, &self.counters, periods)
            })
            .collect()
    }

    /// Takes new rules and times over. Captures under way keep their span.
    pub fn reload(&mut self, settings: CaptureSettings) {
        self.rules.replace(settings.rules);
        self.window.set_span(span(&self.window_settings, &settings));
        self.settings = settings;
    }

    /// The window, for a profile that no incident asked for.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        let window = self.window.stats();
        let observations = window.observations;
        Totals {
            samples: losses(observations.held.cpu, &observations, self.counters.totals()),
            kernel_taken: self.counters.totals().get("samples_taken").copied().unwrap_or(0),
            counters: self.counters.totals().clone(),
            decisions: self.decisions.clone(),
            captures: self.captures.clone(),
            pending: self.pending.len(),
            window,
        }
    }
}

/// When a capture is cut.
fn deadline(pending: &Pending) -> Nanos {
    pending.end.plus(SETTLE)
}

/// The moment itself if it is a whole second, else the next whole second: a span's last bucket is
/// part of it as a whole.
fn second_from(time: Nanos) -> Nanos {
    let second = whole_second(time);
    if second == time { time } else { second.plus(Duration::from_secs(1)) }
}

fn span(window: &WindowSettings, capture: &CaptureSettings) -> Duration {
    let needed = [capture.after, capture.interval, SPAN_MARGIN]
        .iter()
        .fold(capture.lookback, |sum, &part| sum.saturating_add(part));
    window.span.max(needed)
}
