//! Looks at the threads that sleep, before a profile of waits is cut: for those whose wait began before the
//! recorder, or was left out when it began.
//!
//! The kernel tells which they are and where each entered it; their stacks are walked here. Whoever has woken
//! meanwhile is left out: its stack may be another one by now.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use holmes_common::counter::Counter;
use holmes_common::record::flag;
use holmes_common::unwind::WalkEnd;
use holmes_common::walk::Frame;
use rustc_hash::FxHashMap;
use tracing::{debug, warn};

use super::live::{Live, PROC};
use crate::collect::{Stack, Walk, What, clock, read_sleepers};
use crate::process::{Attributed, Cgroup, StackMemory};
use crate::window::Window;

/// Time for walking stacks. The recorder does nothing else meanwhile, and the ring buffer has room for some
/// seconds.
const WALKING: Duration = Duration::from_secs(1);

/// Time for finding out whose threads they are.
const ATTRIBUTING: Duration = Duration::from_secs(1);

/// Time for unwind tables that are not there yet: an ordinary program's take a few milliseconds.
const TABLES: Duration = Duration::from_millis(500);

/// How often it is looked whether they are finished.
const TABLES_STEP: Duration = Duration::from_millis(5);

/// Processes whose tables are waited for: reading one takes a fraction of a millisecond.
const MAX_PREPARED: usize = 256;

/// Times that the ring buffer is drained behind a look: what came meanwhile, and not what comes without end.
const MAX_DRAINS: usize = 16;

/// What is counted of the looks.
#[derive(Debug, Default)]
pub(super) struct BlockedStats {
    /// Threads that there was no room or no time for.
    left_out: u64,
    /// Threads that woke before their stack was known to be true.
    woken: u64,
    /// Looks that the kernel refused.
    failed: u64,
    /// How the walks of their stacks have ended.
    walks: BTreeMap<WalkEnd, u64>,
}

impl BlockedStats {
    /// Adds them to the counters' totals: what is not known of waits is told with what the probes lost of them.
    pub(super) fn add_to(&self, totals: &mut BTreeMap<String, u64>) {
        let causes = [
            ("waits_not_looked_at", self.left_out),
            ("waits_over_meanwhile", self.woken),
            ("wait_looks_failed", self.failed),
        ];
        let walks = self.walks.iter().map(|(end, walks)| (Counter::of_walk(*end).name(), *walks));
        for (name, count) in causes.into_iter().chain(walks) {
            *totals.entry(name.to_owned()).or_default() += count;
        }
    }
}

/// A thread that sleeps, and where its stack begins.
struct Found {
    attributed: Attributed,
    leaf: Frame,
    is_walked: bool,
}

impl Found {
    fn tgid(&self) -> u32 {
        self.attributed.observation.tgid
    }

    /// Whether another walk may come further, with tables that are made meanwhile, or mappings that are new.
    fn may_go_on(&self) -> bool {
        let observation = &self.attributed.observation;
        observation.flags & flag::TABLE_WANTED != 0
            || matches!(observation.walk.end, WalkEnd::Unmapped | WalkEnd::UnknownProcess)
    }
}

impl Live {
    /// The threads of the target that sleep now, in waits that the window does not know, of the processes and
    /// cgroups that are `wanted`. Before they are taken for true, [`Self::still_blocked`] is to be asked.
    pub(super) fn blocked(
        &mut self,
        window: &Window,
        wanted: &dyn Fn(u32, &Cgroup) -> bool,
    ) -> Vec<Attributed> {
        if !self.probes.can_tell_of_blocked() {
            return Vec::new();
        }
        let began = Instant::now();
        let is_new = |what| match what {
            What::Blocked { number, .. } => Some(number),
            _ => None,
        };
        let sleepers = self.probes.blocked_threads().and_then(|file| {
            let told = read_sleepers(file, |it| {
                is_new(it.what).is_some_and(|number| !window.knows_wait(it.tid, number))
            });
            told.map_err(|error| error.to_string())
        });
        let sleepers = match sleepers {
            Ok(sleepers) => sleepers,
            Err(error) => {
                self.blocked.failed += 1;
                warn!("the threads that sleep cannot be looked at: {error}");
                return Vec::new();
            }
        };
        let (told, told_in) = (sleepers.threads.len(), began.elapsed());
        self.blocked.left_out += sleepers.left_out;
        let mut found = Vec::with_capacity(sleepers.threads.len());
        for sleeper in sleepers.threads {
            // Each may be of a process that has to be read first.
            if began.elapsed() >= ATTRIBUTING {
                self.blocked.left_out += 1;
                continue;
            }
            let (mut observation, leaf) = (sleeper.observation, sleeper.leaf);
            if observation.walk.end == WalkEnd::NotWalked {
                let kernel = observation.stack.kernel.clone();
                observation.stack = Arc::new(Stack { user: [leaf.ip].into(), kernel });
            }
            let attributed = self.attributor.attribute(observation);
            if wanted(attributed.observation.tgid, &attributed.cgroup) {
                found.push(Found { attributed, leaf, is_walked: false });
            }
        }
        found.sort_by_key(Found::tgid);
        self.walk_all(&mut found);
        let all = found.len();
        found.retain(|found| found.is_walked);
        self.blocked.left_out += (all - found.len()) as u64;
        debug!(told, ?told_in, took = ?began.elapsed(), "looked at the threads that sleep");
        found.into_iter().map(|found| found.attributed).collect()
    }

    /// Takes those out of `found` that have run since: the probes have told. Everything that they have told
    /// goes to `sink`.
    pub(super) fn still_blocked(
        &mut self,
        found: Vec<Attributed>,
        mut sink: impl FnMut(Attributed),
    ) -> Vec<Attributed> {
        let seen_at = |it: &Attributed| (it.observation.tid, it.observation.time);
        let mut asleep: FxHashMap<u32, _> = found.iter().map(seen_at).collect();
        for _ in 0..MAX_DRAINS {
            let drained = self.drain(|attributed| {
                let (tid, time) = seen_at(&attributed);
                if asleep.get(&tid).is_some_and(|seen| *seen <= time) {
                    asleep.remove(&tid);
                }
                sink(attributed);
            });
            if !drained.more {
                break;
            }
        }
        self.blocked.woken += (found.len() - asleep.len()) as u64;
        for it in found.iter().filter(|it| asleep.contains_key(&it.observation.tid)) {
            *self.blocked.walks.entry(it.observation.walk.end).or_default() += 1;
        }
        let is_asleep = |it: &Attributed| asleep.contains_key(&it.observation.tid);
        found.into_iter().filter(is_asleep).collect()
    }

    /// Walks the stacks: those that lack a table once more when it is there.
    fn walk_all(&mut self, found: &mut [Found]) {
        let now = clock::monotonic();
        for threads in found.chunk_by(|left, right| left.tgid() == right.tgid()) {
            if let Some(Found { attributed, .. }) = threads.first()
                && let Some(image) = &attributed.image
            {
                self.unwinder.seen(attributed.observation.tgid, image, now);
            }
        }
        self.walk(found, |_| true);
        let mut waiting: Vec<u32> =
            found.iter().filter(|found| found.may_go_on()).map(Found::tgid).collect();
        waiting.dedup();
        if waiting.is_empty() {
            return;
        }
        for tgid in waiting.into_iter().take(MAX_PREPARED) {
            if let Some(image) = self.attributor.prepare(tgid, now) {
                self.unwinder.prepare(tgid, &image, now);
            }
        }
        let began = Instant::now();
        while !self.unwinder.is_idle() && began.elapsed() < TABLES {
            thread::sleep(TABLES_STEP);
            self.unwinder.work(clock::monotonic());
        }
        self.walk(found, Found::may_go_on);
    }

    fn walk(&mut self, found: &mut [Found], wanted: impl Fn(&Found) -> bool) {
        let began = Instant::now();
        let mut walker = self.unwinder.walker();
        for threads in found.chunk_by_mut(|left, right| left.tgid() == right.tgid()) {
            let tgid = threads.first().map_or(0, Found::tgid);
            let mut memory = None;
            for found in threads.iter_mut().filter(|found| wanted(found)) {
                let observation = &mut found.attributed.observation;
                let first = !found.is_walked;
                if first && observation.walk.end != WalkEnd::NotWalked {
                    // There is nothing to walk: it is known by its kernel stack.
                    found.is_walked = true;
                    continue;
                }
                if began.elapsed() >= WALKING {
                    return;
                }
                let memory = memory.get_or_insert_with(|| StackMemory::open(Path::new(PROC), tgid));
                let Some(memory) = memory else {
                    // It has ended, which will be told, or may not be read.
                    observation.walk.end = WalkEnd::Unreadable;
                    found.is_walked = true;
                    continue;
                };
                memory.next_thread();
                let walked = walker.walk(tgid, found.leaf, memory);
                let all = flag::TABLE_WANTED | flag::FRAME_POINTERS | flag::USER_STACK_TRUNCATED;
                observation.flags = observation.flags & !all | walked.flags;
                observation.walk =
                    Walk { end: walked.end, stopped_at: walked.stopped_at, copy: None };
                let kernel = observation.stack.kernel.clone();
                observation.stack = Arc::new(Stack { user: walked.frames.into(), kernel });
                found.is_walked = true;
            }
        }
    }
}
