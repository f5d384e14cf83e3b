//! One window, to a file; and where recordings go.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use holmes_common::limits::DRAIN_INTERVAL_MS;
use indicatif::{ProgressBar, ProgressStyle};
use tracing::{error, info, warn};

use super::allocations;
use super::copies::Copies;
use super::live::Live;
use super::locks::lock_holders;
use super::os_signals::{OsSignal, OsSignals};
use super::{advice, balance, symbolizer};
use crate::capture::{CaptureSettings, FlightRecorder, Input, MemoryLook, Start};
use crate::collect::{Nanos, clock};
use crate::kernel::OptionalProbe;
use crate::profile::timeline::{self, TimelineFormat};
use crate::profile::{self, About};
use crate::rules::RuleSet;
use crate::settings::{RecordEvent, RecordFormat, RecordSettings, Tunables, WindowSettings};
use crate::symbolize::{Name, NameStats, SymbolTable};
use crate::window::{Cut, ProfileKind, Timeline};

/// Room for the window's ends beside the recording itself.
const MARGIN: Duration = Duration::from_secs(10);

/// Memory for a timeline that was asked for: a million waits, of which the probes record at most 4,000 in a
/// second.
const TIMELINE_BYTES: usize = 64 << 20;

/// Time for naming. A person waits for this file, and rather longer than in vain: what has no name
/// here never gets one. On an ordinary machine a tenth of a second is enough.
pub(super) const NAMING: Duration = Duration::from_secs(20);

/// Records CPU samples, waits, both as a timeline, or allocations, for a while (or until it is interrupted),
/// names the stacks and writes the file.
///
/// # Errors
/// If the target does not exist, the kernel refuses, or the file cannot be written.
pub fn run(settings: RecordSettings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        match settings.probes.allocation_interval {
            None => record(&settings).await,
            Some(interval) => allocations::record(&settings, interval).await,
        }
    })
}

async fn record(settings: &RecordSettings) -> anyhow::Result<()> {
    let mut signals = OsSignals::listen()?;
    // A file that cannot be written should be known before the time is spent.
    let mut output = Output::open(&settings.output)?;
    // The first samples come while the last probes attach.
    let (from, from_unix_ns) = (clock::monotonic(), clock::unix_ns());
    let mut live = Live::open(&settings.probes).await?;
    let Some(sampling) = live.probes.sampling() else {
        live.announce();
        bail!("CPUs cannot be sampled here: `holmes-ebpf check` tells what to change");
    };
    let shows_waits = settings.event != RecordEvent::Cpu;
    if shows_waits && !live.probes.is_on(OptionalProbe::Waits) {
        live.announce();
        bail!("waits cannot be recorded here: `holmes-ebpf check` tells what to change");
    }
    // What goes on already counts from here on.
    let watched_from = clock::monotonic();
    info!("recording {} for {}", live.watched, humantime::format_duration(settings.duration));
    let start = Start {
        time: from,
        unix_ns: from_unix_ns,
        sample_period_ns: sampling.period_ns,
        memory_interval: settings.probes.fault_interval,
        window: window_settings(settings),
        capture: CaptureSettings::from(&Tunables {
            rules: RuleSet {
                cpu: None,
                memory: None,
                threads: None,
                goroutines: None,
                leak: None,
                psi: None,
                ..RuleSet::default()
            },
            ..Tunables::default()
        }),
    };
    let mut flight = FlightRecorder::new(start);
    let mut copies = Copies::open(settings.stack_copies.as_deref())?;
    if shows_waits {
        // Some of what goes on already ends before the end.
        look_at_blocked(&mut live, &mut flight, &mut copies);
    }
    watch(&mut live, &mut flight, &mut copies, settings, clock::monotonic(), &mut signals).await;
    // While names are looked up another Ctrl-C ends the process at once.
    signals.leave();
    if shows_waits {
        look_at_blocked(&mut live, &mut flight, &mut copies);
    }
    live.probes.detach();
    live.drain_all(|attributed| {
        copies.write(&attributed.observation);
        // What becomes of it is counted in the window.
        let _ = flight.observe(attributed);
    });
    let to = clock::monotonic();
    flight.accept(Input::Counters(live.counters(to)));

    if shows_waits {
        let holders = lock_holders(flight.window(), &|_| true);
        flight.accept(Input::Memory(MemoryLook::at_locks(to, holders)));
    }
    let samples = flight.totals().samples_kept();
    let (target, period) = (live.watched.to_string(), sampling.period_ns);
    let about = |cut: &Cut| About::recording(from_unix_ns, period, &target, &samples, cut);
    let (bytes, cut, names) = match flight.window().timeline(&|_| true, from, to) {
        Some(timeline) => {
            let (symbols, names) = name(settings, &timeline.places);
            let about = about(&timeline.places).of_timeline(&timeline);
            (draw(settings, &timeline, &symbols, &about), timeline.places, names)
        }
        None => {
            let (kind, from) = match settings.event {
                RecordEvent::Cpu | RecordEvent::Timeline => (ProfileKind::Cpu, from),
                RecordEvent::Blocked => (ProfileKind::Blocked, watched_from),
            };
            let cut = flight.window().cut(kind, &|_| true, from, to);
            let (symbols, names) = name(settings, &cut);
            let bytes = match settings.format {
                RecordFormat::Folded => profile::folded(&cut, &symbols).into_bytes(),
                _ => pprof(&cut, &symbols, &about(&cut)),
            };
            (bytes, cut, names)
        }
    };
    output.write(&bytes)?;
    info!("{}", balance(&samples));
    if let Some(advice) = advice(&samples) {
        warn!("{advice}");
    }
    tell_of(settings, &cut, &names);
    Ok(())
}

/// The window of a recording: a timeline has memory of its own, so that it takes none from the samples.
fn window_settings(settings: &RecordSettings) -> WindowSettings {
    let timeline_bytes = if settings.format.is_timeline() { TIMELINE_BYTES } else { 0 };
    let default = WindowSettings::default();
    WindowSettings {
        span: settings.duration.saturating_add(MARGIN),
        max_bytes: default.max_bytes.saturating_add(timeline_bytes),
        timeline_bytes,
        ..default
    }
}

fn name(settings: &RecordSettings, cut: &Cut) -> (SymbolTable, NameStats) {
    symbolizer(&settings.names, None).budget(NAMING).name(&[cut])
}

/// The bytes of a timeline; packed, where the file's name says so. One that breaks a rule of its format is
/// written all the same: most viewers forgive.
fn draw(
    settings: &RecordSettings,
    timeline: &Timeline,
    symbols: &SymbolTable,
    about: &About,
) -> Vec<u8> {
    let format = match settings.format {
        RecordFormat::Chrome => TimelineFormat::Chrome,
        _ => TimelineFormat::Perfetto,
    };
    let packed = settings.output.extension().is_some_and(|ending| ending == "gz");
    let made = timeline::write(timeline, symbols, about, format, packed);
    if !made.violations.is_empty() {
        error!("the timeline breaks a rule of its format: {:?}", made.violations);
    }
    let since = timeline.whole_from.since(timeline.from);
    if !since.is_zero() {
        warn!(
            "the timeline is whole from {:.1} s on: it has room for {} MiB; record a shorter time, or less",
            since.as_secs_f64(),
            TIMELINE_BYTES >> 20
        );
    }
    info!("{} threads, {} spans and samples", timeline.threads.len(), made.events);
    made.bytes
}

/// The bytes of a profile. One that breaks a rule of the format is written all the same: most readers
/// forgive.
pub(super) fn pprof(cut: &Cut, symbols: &SymbolTable, about: &About) -> Vec<u8> {
    let made = profile::encode(cut, symbols, about);
    if let Err(violations) = profile::validate::check(&made) {
        error!("the profile breaks a rule of the format: {violations:?}");
    }
    profile::write_gz(&made)
}

/// Says what was written, and how much of it has names.
pub(super) fn tell_of(settings: &RecordSettings, cut: &Cut, names: &NameStats) {
    info!(
        "{}: {} stacks, {} of {} addresses named",
        settings.output.display(),
        cut.samples.len(),
        names.places() - names.none(),
        names.places()
    );
}

/// Takes in the waits under way that nobody saw begin.
fn look_at_blocked(live: &mut Live, flight: &mut FlightRecorder, copies: &mut Copies) {
    let found = live.blocked(flight.window(), &|_, _| true);
    let found = live.still_blocked(found, |attributed| {
        copies.write(&attributed.observation);
        // What becomes of it is counted in the window.
        let _ = flight.observe(attributed);
    });
    for attributed in found {
        // As above.
        let _ = flight.observe(attributed);
    }
}

/// Collects until the time is over, or somebody interrupts: then what there is counts.
async fn watch(
    live: &mut Live,
    flight: &mut FlightRecorder,
    copies: &mut Copies,
    settings: &RecordSettings,
    from: Nanos,
    signals: &mut OsSignals,
) {
    let end = from.plus(settings.duration);
    let progress = progress(settings);
    let mut tick = tokio::time::interval(Duration::from_millis(DRAIN_INTERVAL_MS));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = live.woken() => {}
            signal = signals.next() => if signal == OsSignal::End {
                break;
            },
        }
        live.drain(|attributed| {
            copies.write(&attributed.observation);
            // What becomes of it is counted in the window.
            let _ = flight.observe(attributed);
        });
        let now = clock::monotonic();
        progress.set_position(now.since(from).as_millis() as u64);
        if now >= end {
            break;
        }
    }
    progress.finish_and_clear();
}

/// A bar for a person at a terminal, nothing otherwise.
pub(super) fn progress(settings: &RecordSettings) -> ProgressBar {
    if settings.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(settings.duration.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {elapsed} (Ctrl-C to end early)") {
        bar.set_style(style);
    }
    bar
}

/// Where the profile goes.
pub(super) enum Output<'a> {
    Stdout,
    File(&'a Path, File),
}

impl<'a> Output<'a> {
    pub(super) fn open(path: &'a Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        // What is there already stays until there is something to replace it.
        let open = File::options().write(true).create(true).truncate(false).open(path);
        let file = open.with_context(|| {
            format!("cannot create {}: choose another place with -o", path.display())
        })?;
        give_to_sudo_user(&file);
        Ok(Self::File(path, file))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => {
                io::stdout().write_all(bytes).context("cannot write to standard output")
            }
            Self::File(path, file) => file
                .metadata()
                // A pipe or a device has no length.
                .and_then(|found| if found.is_file() { file.set_len(0) } else { Ok(()) })
                .and_then(|()| file.write_all(bytes))
                .with_context(|| format!("cannot write {}: is the disk full?", path.display())),
        }
    }
}

/// Under sudo the file belongs to who called sudo.
fn give_to_sudo_user(file: &File) {
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        // A file system without owners: the file is there all the same.
        let _ = std::os::unix::fs::fchown(file, Some(user), Some(group));
    }
}
