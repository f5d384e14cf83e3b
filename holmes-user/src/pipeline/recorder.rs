//! The recorder's loop: takes from the probes and the signals, and hands on what the flight
//! recorder makes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use holmes_common::limits::DRAIN_INTERVAL_MS;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tracing::{error, info, warn};

use super::desk::{Desk, Done};
use super::live::{Live, PROC};
use super::os_signals::{OsSignal, OsSignals};
use super::tap::Tap;
use super::warnings::Warnings;
use super::{advice, announce, balance};
use crate::capture::{CaptureSettings, FlightRecorder, Incident, Input, Start};
use crate::collect::{CgroupId, Nanos, What, clock};
use crate::kernel::{OptionalProbe, ProbeState, TargetFilter};
use crate::process::Attributed;
use crate::serve::{
    self, Metrics, REFRESH_QUEUE, Readiness, Server, ServerState, Status, TRIGGER_QUEUE,
};
use crate::settings::RecorderSettings;
use crate::signals::{KernelLog, Raised, SampledCpu, SignalReader, Target};
use crate::store::{IncidentStore, ProbeOff};
use crate::symbolize::NameStats;

mod go_heap;
mod goroutines;
mod memory;
mod reload;
mod show;
mod triggers;

use show::{SHOW_AT_LEAST_EVERY, SHOW_AT_MOST_EVERY};

/// How long the recorder stays after it was told to end, for incidents under way.
const FAREWELL: Duration = Duration::from_secs(10);

/// Records until it is told to end.
///
/// # Errors
/// If it cannot begin: the target does not exist, the dump folder cannot be written, the address is
/// in use, or the kernel refuses the probes.
pub fn run(settings: RecorderSettings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        // From here on a signal ends the recorder in an orderly way.
        let signals = OsSignals::listen()?;
        // What may be wrong in the settings is found before anything is attached.
        let store =
            IncidentStore::open(&settings.dump_dir, settings.tunables.retention).map(Arc::new)?;
        let server = settings.listen.map(Server::bind).transpose()?;
        let live = Live::open(&settings.probes).await?;
        Recorder::new(settings, live, store)?.run(server, signals).await
    })
}

struct Recorder {
    settings: RecorderSettings,
    live: Live,
    flight: FlightRecorder,
    tap: Tap,
    reader: SignalReader,
    sampled: SampledCpu,
    kernel_log: KernelLog,
    /// How often targets near their limit were looked at.
    near_limit: usize,
    store: Arc<IncidentStore>,
    warnings: Warnings,
    desk: Desk,
    names: NameStats,
    invalid_profiles: u64,
    metrics: Arc<Metrics>,
    /// When the metrics were gathered last.
    shown: Option<std::time::Instant>,
    status: Arc<Status>,
}

impl Recorder {
    fn new(
        settings: RecorderSettings,
        live: Live,
        store: Arc<IncidentStore>,
    ) -> anyhow::Result<Self> {
        let period = live.probes.sampling().map_or(0, |sampling| sampling.period_ns);
        let start = Start {
            time: clock::monotonic(),
            unix_ns: clock::unix_ns(),
            sample_period_ns: period,
            memory_interval: settings.probes.fault_interval,
            window: settings.window,
            capture: CaptureSettings::from(&settings.tunables),
        };
        let probes_off = live.probes.statuses().iter().filter_map(|probe| match &probe.state {
            ProbeState::On(_) => None,
            ProbeState::Off(reason) => {
                Some(ProbeOff { name: probe.name.to_owned(), reason: reason.clone() })
            }
        });
        let (store_too, names) = (Arc::clone(&store), settings.names.clone());
        let desk = Desk::start(store_too, super::host_name(), probes_off.collect(), names)?;
        Ok(Self {
            tap: Tap::open(settings.record_input.as_deref(), &start)?,
            flight: FlightRecorder::new(start),
            reader: live.watched.signal_reader(Path::new(PROC)),
            sampled: SampledCpu::new(period),
            kernel_log: KernelLog::open(),
            near_limit: 0,
            warnings: Warnings::new(),
            desk,
            names: NameStats::default(),
            invalid_profiles: 0,
            metrics: Arc::new(Metrics::new()?),
            shown: None,
            status: Arc::new(Status::new()),
            settings,
            live,
            store,
        })
    }

    async fn run(mut self, server: Option<Server>, mut signals: OsSignals) -> anyhow::Result<()> {
        let (sender, mut triggers) = mpsc::channel(TRIGGER_QUEUE);
        let (refresher, mut refreshes) = mpsc::channel(REFRESH_QUEUE);
        let (stop_server, stopped) = tokio::sync::oneshot::channel::<()>();
        self.announce(server.as_ref());
        self.refresh_cgroups(clock::monotonic());
        self.second();
        if let Some(server) = server {
            let state = ServerState {
                metrics: Arc::clone(&self.metrics),
                status: Arc::clone(&self.status),
                triggers: sender.clone(),
                refreshes: refresher.clone(),
            };
            tokio::spawn(async move {
                let done = async { drop(stopped.await) };
                if let Err(error) = server.run(state, done).await {
                    error!("the HTTP server has ended: {error}");
                }
            });
        }
        let mut drain = every(Duration::ZERO, Duration::from_millis(DRAIN_INTERVAL_MS));
        let mut second = every(Duration::ZERO, Duration::from_secs(1));
        let mut read = every(Duration::ZERO, self.settings.tunables.interval);
        loop {
            tokio::select! {
                _ = drain.tick() => self.drain(),
                () = self.live.woken() => self.drain(),
                _ = second.tick() => self.second(),
                _ = read.tick() => self.read_signals(),
                Some(request) = triggers.recv() => self.answer(request),
                Some(request) = refreshes.recv() => {
                    self.show(SHOW_AT_MOST_EVERY);
                    request.done();
                }
                Some((target, what)) = self.warnings.received.recv() => self.warned(target, what),
                Some(done) = self.desk.done.recv() => self.filed(&done),
                signal = signals.next() => match signal {
                    OsSignal::Reload => {
                        self.reload();
                        let interval = self.settings.tunables.interval;
                        // A reading out of turn would compare with one of a moment ago.
                        if interval != read.period() {
                            read = every(interval, interval);
                        }
                    }
                    OsSignal::Trigger => {
                        if let Err(reason) = self.trigger(&self.live.watched.targets()) {
                            warn!("no incident was cut: {reason}");
                        }
                    }
                    OsSignal::End => break,
                },
            }
        }
        // Nobody serves any more; a server that was not started does not listen either.
        let _ = stop_server.send(());
        drop((sender, refresher));
        self.end(signals).await;
        Ok(())
    }

    fn announce(&self, server: Option<&Server>) {
        self.live.announce();
        info!("incidents go to {}", self.store.dump_dir().display());
        match server {
            Some(server) => info!("recording; metrics at http://{}/metrics", server.local_addr()),
            None => info!("recording; metrics are off"),
        }
        let probes = self.live.probes.statuses().iter().map(|probe| serve::ProbeState {
            name: probe.name.to_owned(),
            on: probe.is_on(),
            reason: match &probe.state {
                ProbeState::On(_) => None,
                ProbeState::Off(reason) => Some(reason.clone()),
            },
        });
        self.status.set_readiness(Readiness::Ready { probes: probes.collect() });
    }

    /// Takes one input in, and hands on what it completes.
    fn feed(&mut self, input: Input) {
        self.tap.write(&input);
        for incident in self.flight.accept(input) {
            self.hand_in(incident);
        }
    }

    fn hand_in(&mut self, incident: Incident) {
        announce(&incident);
        self.desk.hand_in(incident);
    }

    fn drain(&mut self) {
        self.take_in();
        let now = clock::monotonic();
        if self.flight.next_deadline().is_some_and(|deadline| deadline <= now) {
            // The counters must reach as far as the incident does.
            self.feed(Input::Counters(self.live.counters(now)));
            self.look_at_due(now);
            self.feed(Input::Tick(now));
        }
    }

    /// Takes in what has happened since the last time.
    fn take_in(&mut self) {
        self.observe(|live, sink| {
            live.drain(sink);
        });
    }

    /// Takes in what `drain` hands over.
    fn observe(&mut self, drain: impl FnOnce(&mut Live, &mut dyn FnMut(Attributed))) {
        let Self { live, flight, tap, .. } = self;
        let mut killed = Vec::new();
        drain(live, &mut |attributed| {
            tap.observe(&attributed);
            if attributed.observation.what == What::OomVictim {
                killed.push(attributed.clone());
            }
            // What becomes of it is counted in the window.
            let _ = flight.observe(attributed);
        });
        self.killed(&killed);
    }

    /// What is done each second: counters, clock, named cgroups.
    fn second(&mut self) {
        self.status.beat();
        let now = clock::monotonic();
        self.feed(Input::Counters(self.live.counters(now)));
        self.feed(Input::Clock { monotonic: now, unix_ns: clock::unix_ns() });
        self.look_at_due(now);
        self.feed(Input::Tick(now));
        if !self.live.watched.take_remade().is_empty()
            && let TargetFilter::Cgroups(ids) = self.live.watched.filter()
            && let Err(error) = self.live.probes.follow_cgroups(&ids)
        {
            error!("a cgroup was made again and cannot be followed: {error}");
        }
        self.show(SHOW_AT_LEAST_EVERY);
        self.tap.flush();
    }

    /// Looks which cgroups there are. It reads the whole hierarchy; a cgroup that is new meanwhile
    /// is looked for when something is first observed in it.
    fn refresh_cgroups(&mut self, now: Nanos) {
        let populated = self.live.attributor.refresh_cgroups(now);
        self.reader.set_cgroups(&populated);
        let removed = self.live.attributor.take_removed();
        if !removed.is_empty() {
            // Their totals are counted before they are forgotten.
            self.show(Duration::ZERO);
        }
        for CgroupId(id) in removed {
            self.live.probes.forget_cgroup(id);
        }
    }

    fn read_signals(&mut self) {
        // What happened before the reading belongs before it.
        self.drain();
        let now = clock::monotonic();
        self.refresh_cgroups(now);
        self.sampled.update(self.live.cgroup_samples(now));
        let frame = self.reader.read(now, &|target| self.sampled.since_last(target));
        self.look_near_limit(&frame);
        self.look_at_due(frame.time);
        self.feed(Input::Signals(frame));
        self.look_at_goroutines();
        let psi = self.settings.tunables.rules.psi.as_ref();
        let kills = !self.live.probes.is_on(OptionalProbe::Oom);
        self.warnings.follow(psi, kills, self.reader.warning_places());
    }

    /// Takes in what the kernel says of a target's memory.
    fn warned(&mut self, target: Target, raised: Raised) {
        // As before a reading.
        self.drain();
        let time = clock::monotonic();
        self.look_at_due(time);
        if raised.kills > 0 && !self.live.probes.is_on(OptionalProbe::Oom) {
            self.kills_counted(&target, time);
        }
        if let Some(what) = raised.warning {
            self.feed(Input::Warning { time, target, what });
        }
    }

    fn filed(&mut self, done: &Done) {
        self.desk.under_way = self.desk.under_way.saturating_sub(1);
        self.metrics.observe_capture(done.took);
        let Some(filed) = &done.filed else {
            self.desk.broken += 1;
            error!(
                "an incident is lost: naming or writing it has failed (a fault of this program)"
            );
            return;
        };
        self.names.merge(&filed.names);
        self.invalid_profiles += filed.invalid_profiles;
        match &filed.written {
            Ok(written) => info!("incident written: {}", written.folder.display()),
            Err(error) => error!("an incident is lost: {}", super::chain(error)),
        }
        self.feed(Input::Names(filed.symbols.to_names()));
    }

    /// Finishes what is under way: within a bound, or at once when told again.
    async fn end(mut self, mut signals: OsSignals) {
        info!("ending; once more to leave at once");
        self.status.set_readiness(Readiness::NotReady { reason: "it is ending".to_owned() });
        self.look_at_all_blocked();
        self.live.probes.detach();
        self.observe(|live, sink| live.drain_all(sink));
        let now = clock::monotonic();
        self.feed(Input::Counters(self.live.counters(now)));
        // All of them are cut now.
        self.look_at_due(Nanos(u64::MAX));
        self.feed(Input::End(now));
        self.desk.close();
        let farewell = tokio::time::sleep(FAREWELL);
        tokio::pin!(farewell);
        while self.desk.under_way > 0 {
            tokio::select! {
                Some(done) = self.desk.done.recv() => self.filed(&done),
                () = &mut farewell => {
                    error!("{} incidents were not written in time", self.desk.under_way);
                    break;
                }
                signal = signals.next() => if signal == OsSignal::End {
                    warn!("left with {} incidents unwritten", self.desk.under_way);
                    break;
                },
            }
        }
        self.tap.flush();
        let samples = self.flight.totals().samples_kept();
        info!("{}", balance(&samples));
        if let Some(advice) = advice(&samples) {
            warn!("{advice}");
        }
    }
}

/// Ticks from `delay` on. Missed ones are not made up for: the work of one covers them all.
fn every(delay: Duration, period: Duration) -> Interval {
    let mut interval = interval_at(tokio::time::Instant::now() + delay, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
