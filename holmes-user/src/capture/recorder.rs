//! The flight recorder: takes every input in order, and returns the incidents that it completes.
//!
//! Must not: do I/O, read a clock, or depend on anything but its inputs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::incident::{Incident, Reason};
use super::input::{CaptureSettings, Input, Start};
use super::losses::{CounterHistory, losses};
use super::pending::{Pending, Periods, whole_second};
use super::totals::{Refused, Totals};
use crate::collect::Nanos;
use crate::process::Attributed;
use crate::rules::{Cause, Decision, RuleBook, Spike};
use crate::settings::WindowSettings;
use crate::signals::{Reading, Signal, SignalFrame, Target, Warning};
use crate::window::{Fate, Window};

/// Captures under way at the same time. Each is cut at once when it closes, so this bounds how many
/// incidents wait to be named and written.
pub const MAX_PENDING: usize = 32;

/// How long after the end of its span an incident is cut: the ring buffer is drained every 100 ms,
/// and what happened in the span must have arrived.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Seconds of window beyond look-back, interval and after-window: both ends of a span are rounded
/// to whole seconds, and a capture closes with the first tick after [`SETTLE`].
const SPAN_MARGIN: Duration = Duration::from_secs(5);

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
    pub(super) window: Window,
    rules: RuleBook,
    /// The host's CPU use in the last frame, percent.
    host_cpu: f64,
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
            host_cpu: 0.0,
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
            Input::Goroutines(look) => self.looked_at_goroutines(look),
            Input::GoHeap(look) => self.looked_at_go_heap(look),
            Input::OomKill(kill) => {
                // As below.
                let _ = self.killed(kill);
            }
            Input::Trigger { time, target } => {
                // A refusal is counted; whoever needs to know calls `trigger` itself.
                let _ = self.trigger(time, target);
            }
            Input::Warning { time, target, what } => return self.warn(time, target, what),
            Input::Reload(settings) => self.reload(*settings),
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
        let (now, host_cpu) = (frame.time, frame.host_cpu);
        self.host_cpu = host_cpu;
        let mut quiet = BTreeMap::new();
        for Reading { target, signal, value } in frame.readings {
            if !value.is_finite() {
                self.count_decision(signal, "unreadable");
                continue;
            }
            let decision = self.rules.decide(now, &target, signal, value, host_cpu);
            self.act(now, target, signal, value, decision, &mut quiet);
        }
        for memory in frame.memory {
            let decision = self.rules.decide_leak(now, &memory, host_cpu);
            let rate = match &decision {
                Decision::Fire(Spike { cause: Cause::Leak(growth), .. }) => growth.rate,
                _ => 0.0,
            };
            self.act(now, memory.target, Signal::Leak, rate, decision, &mut quiet);
        }
        self.quiet = quiet;
        incidents
    }

    /// Does what was decided on a value, and notes when it was last quiet.
    fn act(
        &mut self,
        now: Nanos,
        target: Target,
        signal: Signal,
        value: f64,
        decision: Decision,
        quiet: &mut BTreeMap<(Target, Signal), Nanos>,
    ) {
        self.count_decision(signal, decision.name());
        let key = (target, signal);
        let mut last_quiet = self.quiet.get(&key).copied();
        match decision {
            Decision::Quiet => last_quiet = Some(now),
            Decision::Suppressed(_) => {}
            Decision::Fire(spike) => {
                let target = key.0.clone();
                self.open_for_rule(now, Reading { target, signal, value }, spike, last_quiet);
            }
        }
        if let Some(last_quiet) = last_quiet {
            quiet.insert(key, last_quiet);
        }
    }

    /// Takes an early warning of the kernel: an incident of the target's memory, if the rule lets it
    /// pass.
    pub fn warn(&mut self, now: Nanos, target: Target, what: Warning) -> Vec<Incident> {
        let incidents = self.tick(now);
        let decision = self.rules.decide_warning(now, &target, what, self.host_cpu);
        self.count_decision(Signal::Psi, decision.name());
        if let Decision::Fire(spike) = decision {
            let value = spike.previous.last().copied().unwrap_or(0.0);
            let last_quiet = self.quiet.get(&(target.clone(), Signal::Memory)).copied();
            let reading = Reading { target, signal: Signal::Memory, value };
            self.open_for_rule(now, reading, spike, last_quiet);
        }
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
            Cause::Leak(growth) => Reason::Leak(growth),
            Cause::Warned(warning) => Reason::Warned(warning),
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
        let now = pending.trigger;
        if self.pending.len() < room_for(&pending) {
            let is_kill = pending.reason == Reason::Oom;
            let spent = if is_kill { self.rules.spend_on_kill(now) } else { self.rules.spend(now) };
            if !spent {
                return Err(self.refuse(Refused::Budget, "budget"));
            }
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
            goroutines: None,
            go_heap: None,
        }
    }

    fn open(&mut self, pending: Pending) -> Result<(), Refused> {
        if self.pending.len() >= room_for(&pending) {
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

/// How many may be under way for this one to begin: a host-wide spike must not hide a kill.
fn room_for(pending: &Pending) -> usize {
    if pending.reason == Reason::Oom { 2 * MAX_PENDING } else { MAX_PENDING }
}

/// When a capture is cut.
pub(super) fn deadline(pending: &Pending) -> Nanos {
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
