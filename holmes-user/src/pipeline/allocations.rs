//! What one process allocates in a bounded time, to a file.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, bail};
use holmes_common::counter::{Counter, Stream};
use holmes_common::limits::DRAIN_INTERVAL_MS;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

use super::live::Live;
use super::os_signals::{OsSignal, OsSignals};
use super::record::{NAMING, Output, pprof, progress, tell_of};
use super::symbolizer;
use crate::capture::Losses;
use crate::collect::{Nanos, What, clock};
use crate::kernel::KernelCounts;
use crate::process::{Attributed, find_allocator};
use crate::profile::{self, About};
use crate::settings::{RecordFormat, RecordSettings, Watch};
use crate::symbolize::Name;
use crate::window::{AllocationLedger, AllocationStats};

/// Records for a while, until the process ends or executes another program, or until it is
/// interrupted; names the stacks and writes the file.
///
/// # Errors
/// If the process does not exist or has no allocator that can be found, the kernel refuses, or the
/// file cannot be written.
pub(super) async fn record(settings: &RecordSettings, interval: u64) -> anyhow::Result<()> {
    let Watch::Processes(pids) = &settings.probes.watch else { bail!(ONE_PROCESS) };
    let &[pid] = pids.as_slice() else { bail!(ONE_PROCESS) };
    let mut signals = OsSignals::listen()?;
    // A file that cannot be written should be known before the time is spent.
    let mut output = Output::open(&settings.output)?;
    let mut live = Live::open(&settings.probes).await?;
    let mut recording = Recording {
        ledger: AllocationLedger::new(interval),
        pid,
        end: End::of(pid)?,
        ended_as: None,
    };
    let image = live.attributor.prepare(pid, clock::monotonic()).with_context(|| {
        format!(
            "cannot read what process {pid} has mapped: it has just ended, or is a kernel thread"
        )
    })?;
    let allocator = find_allocator(&image)?;
    let (from, from_unix_ns) = (clock::monotonic(), clock::unix_ns());
    live.probes.attach_allocator(pid, &allocator.functions)?;
    let files = allocator.files.join(", ");
    info!(
        "recording the allocations of {} by {files} for {}",
        live.watched,
        humantime::format_duration(settings.duration)
    );
    let unseen_new = (!allocator.unseen_new.is_empty()).then(|| {
        format!(
            "operator new of {} is not seen, only malloc and the like: a probe on it could end the \
             process",
            allocator.unseen_new.join(", ")
        )
    });
    if let Some(unseen) = &unseen_new {
        warn!("{unseen}");
    }
    recording.watch(&mut live, settings, from, &mut signals).await;
    // While names are looked up another Ctrl-C ends the process at once.
    signals.leave();
    // Detaching takes a second, one probe after the other.
    live.probes.leave_process(pid)?;
    let to = clock::monotonic();
    live.probes.detach();
    live.drain_all(|attributed| {
        let freed = matches!(attributed.observation.what, What::Free { .. });
        if !freed || attributed.observation.time <= to {
            recording.observe(attributed);
        }
    });

    let cut = recording.ledger.cut(from, to);
    let counts = live.probes.counts();
    let losses = losses(&counts, recording.ledger.stats());
    let (symbols, names) = symbolizer(&settings.names, None).budget(NAMING).name(&[&cut]);
    let bytes = match settings.format {
        RecordFormat::Folded => profile::folded(&cut, &symbols).into_bytes(),
        // `cli` refuses the others.
        RecordFormat::Pprof | RecordFormat::Perfetto | RecordFormat::Chrome => {
            let mut notes = vec![format!("allocator: {files}")];
            notes.extend(unseen_new);
            notes.extend(recording.notes(&counts, &losses));
            let target = live.watched.to_string();
            let about = About::allocations(from_unix_ns, interval, &target, notes);
            pprof(&cut, &symbols, &about)
        }
    };
    output.write(&bytes)?;
    info!("allocation samples: {}", losses.account());
    if let Some(advice) = advice(&losses, counts.get(Counter::AllocationCalls)) {
        warn!("{advice}");
    }
    tell_of(settings, &cut, &names);
    Ok(())
}

const ONE_PROCESS: &str = "allocations are recorded of one process: name it with -p";

/// A recording under way.
struct Recording {
    ledger: AllocationLedger,
    pid: u32,
    end: End,
    /// What the process did that ended the recording, if it did.
    ended_as: Option<&'static str>,
}

impl Recording {
    /// Collects until the time is over, the process is gone, or somebody interrupts: then what there
    /// is counts.
    async fn watch(
        &mut self,
        live: &mut Live,
        settings: &RecordSettings,
        from: Nanos,
        signals: &mut OsSignals,
    ) {
        let end = from.plus(settings.duration);
        let progress = progress(settings);
        let mut tick = tokio::time::interval(Duration::from_millis(DRAIN_INTERVAL_MS));
        while self.ended_as.is_none() {
            tokio::select! {
                _ = tick.tick() => {}
                () = live.woken() => {}
                () = self.end.reached() => self.ended_as = Some("ended"),
                signal = signals.next() => if signal == OsSignal::End {
                    break;
                },
            }
            live.drain(|attributed| self.observe(attributed));
            let now = clock::monotonic();
            progress.set_position(now.since(from).as_millis() as u64);
            if now >= end {
                break;
            }
        }
        progress.finish_and_clear();
        if let Some(how) = self.ended_as {
            warn!("the process {how}: what was in use then counts as in use");
        }
    }

    fn observe(&mut self, attributed: Attributed) {
        // Its memory is gone, and so are the probes.
        if attributed.observation.what == What::Exec && attributed.observation.tgid == self.pid {
            self.ended_as.get_or_insert("executed another program");
        }
        self.ledger.observe(attributed);
    }

    /// What a reader of the profile should know.
    fn notes(&self, counts: &KernelCounts, losses: &Losses) -> Vec<String> {
        let mut notes = vec![
            format!("calls that allocate: {}", counts.get(Counter::AllocationCalls)),
            format!("samples: {}", losses.account()),
        ];
        notes.extend(
            self.ended_as.map(|how| format!("the process {how} meanwhile: in use is as of then")),
        );
        let noted = losses.notes.iter().filter(|&(_, &count)| count > 0);
        notes.extend(noted.map(|(what, count)| format!("{what}: {count}")));
        if losses.notes.values().any(|&count| count > 0) {
            notes.push("what is in use is doubtful: see the counts above".to_owned());
        }
        notes
    }
}

/// What was taken, and what became of it.
fn losses(counts: &KernelCounts, ledger: AllocationStats) -> Losses {
    let stream = Stream::Allocations;
    let lost = [
        ("ring_full", counts.get(stream.ring_full())),
        ("no_scratch", counts.get(stream.no_scratch())),
        ("no_chain", counts.get(stream.no_chain())),
        ("map_full", counts.get(Counter::AllocationsMapFull)),
        ("unfinished", counts.get(Counter::AllocationsUnfinished)),
        ("ledger_full", ledger.full),
    ];
    let notes = [
        ("ends of allocations lost", counts.get(Counter::AllocationFreesLost)),
        ("ends of allocations seen late", ledger.given_back_unseen),
        ("calls of threads not considered", counts.get(Counter::AllocationThreadsFull)),
    ];
    Losses {
        taken: counts.get(stream.taken()),
        reported: ledger.reported,
        lost: lost.map(|(cause, count)| (cause.to_owned(), count)).into(),
        notes: notes.map(|(what, count)| (what.to_owned(), count)).into(),
    }
}

/// What would have made a better profile, if anything.
fn advice(losses: &Losses, calls: u64) -> Option<&'static str> {
    let lost = |cause: &str| losses.lost.get(cause).is_some_and(|&count| count > 0);
    if lost("ring_full") || losses.notes.get("ends of allocations lost").is_some_and(|&n| n > 0) {
        Some("a larger --ring-bytes or --allocation-interval loses fewer")
    } else if lost("map_full") || lost("ledger_full") {
        Some("a larger --allocation-interval loses fewer")
    } else if calls == 0 {
        Some("no call of the allocator was seen: the process allocates nothing, or by other means")
    } else if losses.taken == 0 {
        Some("nothing was sampled: a smaller --allocation-interval or a longer -d sees more")
    } else {
        None
    }
}

/// Tells when a process has ended.
struct End(AsyncFd<OwnedFd>);

impl End {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = process.with_context(|| format!("{pid} is no process's number"))?;
        let fd = pidfd_open(process, PidfdFlags::empty())
            .with_context(|| format!("cannot follow process {pid}: it has just ended"))?;
        // SAFETY: an owned descriptor stays the same and open as long as it lives.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(fd.context("cannot wait for a process")?))
    }

    async fn reached(&self) {
        // An error would be that the event loop is ending: then nobody waits any more.
        if self.0.readable().await.is_err() {
            std::future::pending().await
        }
    }
}
