//! The stages up to whose an observation is, on this host's kernel.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use holmes_common::counter::{CgroupTotals, Counter, Stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

use super::blocked::BlockedStats;
use crate::capture::Counters;
use crate::collect::{CgroupId, Drained, Drainer, Nanos, What, clock};
use crate::kernel::capabilities::{self, Held};
use crate::kernel::cgroupfs::Layout;
use crate::kernel::features::{Roots, usercopy_deadlock};
use crate::kernel::{ProbePlan, ProbeState, Probes};
use crate::process::{Attributed, Attributor, Cgroup};
use crate::settings::ProbeSettings;
use crate::signals::Watched;
use crate::unwind::{UnwindStats, Unwinder};

/// Where this host's processes are.
pub(super) const PROC: &str = "/proc";

/// Time spent on preparations. The first sample is promised half a second after the start.
const PREPARATION: Duration = Duration::from_millis(250);

/// How often it is looked whether they are finished.
const PREPARATION_STEP: Duration = Duration::from_millis(5);

/// Processes that are prepared: reading one takes a fraction of a millisecond.
const MAX_PREPARED: usize = 256;

/// Open files that are enough for a thousand CPUs.
const MANY_FILES: u64 = 8192;

/// Observations as they happen.
pub(super) struct Live {
    pub(super) probes: Probes,
    pub(super) attributor: Attributor,
    pub(super) watched: Watched,
    drainer: Drainer,
    pub(super) unwinder: Unwinder,
    pub(super) blocked: BlockedStats,
    /// Readable when the probes want to be heard at once.
    bell: AsyncFd<OwnedFd>,
    /// Observations that reached user space, by stream.
    pub(super) delivered: BTreeMap<Stream, u64>,
    malformed: u64,
}

impl Live {
    /// Finds the target and attaches the probes.
    pub(super) async fn open(settings: &ProbeSettings) -> anyhow::Result<Self> {
        let layout = Layout::read()?;
        let watched = Watched::find(&settings.watch, layout, Path::new(PROC))?;
        check_host()?;
        raise_file_limit();
        let plan = ProbePlan {
            target: watched.filter(),
            controller: watched.controller(),
            frequency: settings.frequency,
            ring_bytes: settings.ring_bytes,
            unwind_rows: settings.unwind_rows,
            without: settings.without.clone(),
            fault_interval: settings.fault_interval,
            copy_stacks: settings.copy_stacks,
            allocation_interval: settings.allocation_interval,
            probe_log: settings.probe_log,
        };
        let mut probes = Probes::load(&plan)?;
        let unwinder = Unwinder::new(Box::new(probes.take_unwind_maps()?))?;
        let drainer = Drainer::new(probes.take_records()?);
        const WAIT: &str = "cannot wait for the ring buffer";
        let bell = drainer.bell().context(WAIT)?;
        // SAFETY: an owned descriptor stays the same and open as long as it lives.
        let bell = unsafe { AsyncFd::register_with_interest(bell, Interest::READABLE) };
        let bell = bell.context(WAIT)?;
        let attributor = Attributor::new(Path::new(PROC), watched.cgroup_index());
        let mut live = Self {
            probes,
            attributor,
            watched,
            unwinder,
            blocked: BlockedStats::default(),
            bell,
            drainer,
            delivered: BTreeMap::new(),
            malformed: 0,
        };
        live.prepare().await;
        live.probes.attach()?;
        Ok(live)
    }

    /// Makes the unwind tables of the target's processes before the first sample is taken, as far as
    /// that does not take long; the rest follow while it is recorded.
    async fn prepare(&mut self) {
        let began = Instant::now();
        for pid in self.watched.processes(MAX_PREPARED) {
            let now = clock::monotonic();
            if let Some(image) = self.attributor.prepare(pid, now) {
                self.unwinder.prepare(pid, &image, now);
            }
            if began.elapsed() >= PREPARATION {
                break;
            }
        }
        while !self.unwinder.is_idle() && began.elapsed() < PREPARATION {
            tokio::time::sleep(PREPARATION_STEP).await;
            self.unwinder.work(clock::monotonic());
        }
    }

    /// Hands over what has happened since the last time.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(Attributed)) -> Drained {
        let Self { drainer, attributor, unwinder, delivered, .. } = self;
        let drained = drainer.drain(|observation| {
            // The end of a wait is no record of its own: its beginning was taken.
            if !matches!(observation.what, What::WaitEnd { .. }) {
                *delivered.entry(observation.what.stream()).or_insert(0) += 1;
            }
            let attributed = attributor.attribute(observation);
            unwinder.observe(&attributed);
            sink(attributed);
        });
        let now = clock::monotonic();
        for tgid in attributor.take_forgotten() {
            unwinder.forgot(tgid, now);
        }
        unwinder.work(now);
        self.malformed += drained.malformed;
        self.probes.flush_log();
        drained
    }

    /// Waits until the probes want to be heard at once: a process is new to them.
    pub(super) async fn woken(&self) {
        match self.bell.readable().await {
            // The next wake-up is news, whatever was drained meanwhile.
            Ok(mut ready) => ready.clear_ready(),
            // The event loop is ending.
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands over everything that is still to come, after the probes were detached.
    pub(super) fn drain_all(&mut self, mut sink: impl FnMut(Attributed)) {
        while self.drain(&mut sink).more {}
    }

    /// Which of these pages of processes are not in memory: all of a process that is gone, whose end
    /// nobody has told. Of one that is just ending nothing can be said: its end is a record of its own.
    pub(super) fn absent_pages(&mut self, pages: Vec<(u32, Vec<u64>)>) -> Vec<(u32, Vec<u64>)> {
        let absent = pages.into_iter().filter_map(|(tgid, addresses)| {
            let absent = match self.attributor.absent_pages(tgid, &addresses) {
                Some(absent) => absent,
                None if !Path::new(PROC).join(tgid.to_string()).exists() => addresses,
                None => return None,
            };
            (!absent.is_empty()).then_some((tgid, absent))
        });
        absent.collect()
    }

    /// Bytes resident of these processes: anonymous ones, and those of files and of shared memory.
    pub(super) fn resident_bytes(&self, tgids: impl Iterator<Item = u32>) -> Vec<(u32, [u64; 2])> {
        tgids.filter_map(|tgid| Some((tgid, self.attributor.resident_bytes(tgid)?))).collect()
    }

    /// What is counted of the unwinder's tables.
    pub(super) fn unwind_stats(&self) -> UnwindStats {
        self.unwinder.stats()
    }

    /// What was counted on the way so far.
    pub(super) fn counters(&self, now: Nanos) -> Counters {
        let counts = self.probes.counts();
        let mut totals: BTreeMap<String, u64> = Counter::ALL
            .iter()
            .map(|counter| (counter.name().to_owned(), counts.get(*counter)))
            .collect();
        // Nobody can say of which stream a malformed record was: the worst is assumed.
        totals.insert("samples_malformed".to_owned(), self.malformed);
        self.blocked.add_to(&mut totals);
        Counters { time: now, totals }
    }

    /// Samples of each cgroup since the probes began.
    pub(super) fn cgroup_samples(&mut self, now: Nanos) -> Vec<(Arc<Cgroup>, u64)> {
        let Self { probes, attributor, .. } = self;
        let totals = probes.cgroup_totals().into_iter();
        totals.map(|(id, totals)| (attributor.cgroup(CgroupId(id), now), totals.samples)).collect()
    }

    /// The totals of each cgroup since the probes began, whether the user named it, its memory in bytes
    /// out of `memory`, and its own processes' goroutines out of `goroutines`.
    pub(super) fn cgroup_totals(
        &mut self,
        now: Nanos,
        memory: &BTreeMap<&str, u64>,
        goroutines: &BTreeMap<&str, u64>,
    ) -> Vec<(Arc<Cgroup>, CgroupTotals, bool, [u64; 2])> {
        let Self { probes, attributor, watched, .. } = self;
        let totals = probes.cgroup_totals().into_iter();
        totals
            .map(|(id, totals)| {
                let cgroup = attributor.cgroup(CgroupId(id), now);
                let named = watched.names(&cgroup);
                let of = |counts: &BTreeMap<&str, u64>| counts.get(cgroup.path.as_str()).copied();
                let gauges = [memory, goroutines].map(|counts| of(counts).unwrap_or(0));
                (cgroup, totals, named, gauges)
            })
            .collect()
    }

    /// Tells a person which probes are on, and why others are off.
    pub(super) fn announce(&self) {
        info!("watching {}", self.watched);
        let on: Vec<String> = self
            .probes
            .statuses()
            .iter()
            .filter_map(|probe| match &probe.state {
                ProbeState::On(how) if how.is_empty() => Some(probe.name.to_owned()),
                ProbeState::On(how) => Some(format!("{} ({how})", probe.name)),
                ProbeState::Off(_) => None,
            })
            .collect();
        info!("probes on: {}", on.join(", "));
        // Probes that are off for the same reason share a line.
        let mut off: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for probe in self.probes.statuses() {
            if let ProbeState::Off(why) = &probe.state {
                off.entry(why).or_default().push(probe.name);
            }
        }
        for (why, names) in off {
            warn!("probes off: {}: {why}", names.join(", "));
        }
    }
}

/// Raises the number of files that may be open to what is allowed: each CPU has three events, and
/// executables, page maps and the kernel's warnings are held open, each within a bound of its own.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MANY_FILES, |maximum| maximum.min(MANY_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!("the limit of open files cannot be raised to {wanted}: {error}");
        }
    }
}

/// Refuses where the kernel would refuse anyway, with what to do about it, and where it would come
/// to harm.
fn check_host() -> anyhow::Result<()> {
    let roots = Roots::default();
    let release = roots.release();
    let held = Held::read().context("cannot read this process's capabilities")?;
    if let Some(release) = release {
        capabilities::require(&held, release)?;
        match usercopy_deadlock(&roots, release) {
            Some(true) => bail!(
                "this kernel ({release}) can dead-lock when user memory is read in a perf \
                 interrupt (hardened usercopy, 5.19 to 6.0): boot 6.1 or newer"
            ),
            None => warn!(
                "kernels 5.19 to 6.0 with hardened usercopy can dead-lock under profilers, and \
                 this one's configuration cannot be read"
            ),
            Some(false) => {}
        }
    }
    Ok(())
}
