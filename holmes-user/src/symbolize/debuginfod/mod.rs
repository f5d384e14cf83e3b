//! Debug files from a debuginfod server, if the user names one.
//!
//! An incident is never delayed for it: [`Debuginfod::debug_file`] gives what is in the cache and
//! leaves the rest to a thread that fetches it for the next incident.
//!
//! Format: `GET /buildid/BUILDID/debuginfo`, as debuginfod(8) of elfutils has it.
//!
//! Must not: read `DEBUGINFOD_URLS`; send anything but build-ids; keep a file of another build.

mod cache;
mod fetch;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use self::cache::Cache;
use self::fetch::{FetchError, Fetcher};
use super::debug_file::is_build_id;

/// Files that wait to be fetched; the executables and libraries of one incident are fewer. What is
/// left out is asked for again by the next one.
const MAX_WAITING: usize = 256;
/// Build-ids remembered because the server does not have them.
const MAX_ABSENT: usize = 4096;
/// After this long the server is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// What became of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// In the cache now.
    Stored,
    /// The server does not have it.
    Absent,
    /// The server cannot be reached, or breaks off.
    Failed,
    /// What came is no debug file of that build, or too large.
    Refused,
    /// Too many were waiting.
    Dropped,
}

impl Fetch {
    /// Every value.
    pub const ALL: [Self; 5] =
        [Self::Stored, Self::Absent, Self::Failed, Self::Refused, Self::Dropped];

    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
        }
    }
}

/// Why debuginfod cannot be used.
#[derive(Debug, Error)]
pub enum DebuginfodError {
    /// The cache's folder cannot be made.
    #[error("cannot use {} for debug files: give another folder with --debug-cache", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread that fetches cannot be started.
    #[error("cannot start the thread that fetches debug files")]
    Thread(#[source] std::io::Error),
}

/// The cache of debug files, and the thread that fills it.
#[derive(Debug)]
pub struct Debuginfod {
    cache: Arc<Cache>,
    inbox: SyncSender<String>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashSet<String>,
    /// Since when.
    absent: HashMap<String, Instant>,
    counts: [u64; Fetch::ALL.len()],
}

impl Debuginfod {
    /// Starts fetching from a server (`http://` or `https://`) into a folder of at most `max_bytes`.
    ///
    /// # Errors
    /// The folder or the thread cannot be made.
    pub fn start(url: &str, folder: &Path, max_bytes: u64) -> Result<Arc<Self>, DebuginfodError> {
        let cache = Cache::open(folder, max_bytes)
            .map_err(|source| DebuginfodError::Cache { path: folder.to_owned(), source })?;
        let (cache, state) = (Arc::new(cache), Arc::default());
        let (inbox, wanted) = sync_channel(MAX_WAITING);
        let fetcher = Fetcher::new(url);
        let (to, shared) = (Arc::clone(&cache), Arc::clone(&state));
        thread::Builder::new()
            .name("holmes-debuginfo".to_owned())
            .spawn(move || work(&wanted, &fetcher, &to, &shared))
            .map_err(DebuginfodError::Thread)?;
        Ok(Arc::new(Self { cache, inbox, state }))
    }

    /// The debug file of this build, if it has been fetched; if not, it will be. Never waits for
    /// the network.
    pub fn debug_file(&self, build_id: &str) -> Option<File> {
        if !is_build_id(build_id) {
            return None;
        }
        if let Some(file) = self.cache.get(build_id) {
            return Some(file);
        }
        let mut state = lock(&self.state);
        let asked_lately =
            state.absent.get(build_id).is_some_and(|since| since.elapsed() < ASK_AGAIN);
        if !asked_lately && !state.waiting.contains(build_id) {
            match self.inbox.try_send(build_id.to_owned()) {
                Ok(()) => drop(state.waiting.insert(build_id.to_owned())),
                Err(_) => state.counts[Fetch::Dropped as usize] += 1,
            }
        }
        None
    }

    /// What became of the requests so far.
    pub fn counts(&self) -> [(&'static str, u64); Fetch::ALL.len()] {
        let state = lock(&self.state);
        Fetch::ALL.map(|fetch| (fetch.name(), state.counts[fetch as usize]))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing panics while it is held, and counts are sound after any panic.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fetches until the recorder is gone.
fn work(wanted: &Receiver<String>, fetcher: &Fetcher, cache: &Cache, state: &Mutex<State>) {
    while let Ok(build_id) = wanted.recv() {
        let result = fetcher.fetch(&build_id, cache);
        let fetch = match &result {
            Ok(()) => Fetch::Stored,
            Err(FetchError::Absent) => Fetch::Absent,
            Err(FetchError::Refused) => Fetch::Refused,
            Err(FetchError::Http(_) | FetchError::Disk(_)) => Fetch::Failed,
        };
        match &result {
            Ok(()) => tracing::info!("debug information of {build_id} is there for the next time"),
            Err(FetchError::Absent) => {}
            Err(error) => {
                let cause = std::error::Error::source(error);
                tracing::warn!(cause, "debug information of {build_id} is missing: {error}");
            }
        }
        let mut state = lock(state);
        state.waiting.remove(&build_id);
        state.counts[fetch as usize] += 1;
        if result.is_err() {
            if state.absent.len() >= MAX_ABSENT {
                state.absent.retain(|_, since| since.elapsed() < ASK_AGAIN);
            }
            // Still too many: those are asked for more often than they need to be.
            if state.absent.len() >= MAX_ABSENT {
                state.absent.clear();
            }
            state.absent.insert(build_id, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
