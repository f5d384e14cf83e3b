//! The thread that names and files incidents, so that the recorder's loop never waits for symbol
//! tables or a disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc::{Receiver, channel};
use tracing::error;

use crate::capture::{Incident, MAX_PENDING};
use crate::collect::clock;
use crate::settings::NameSettings;
use crate::store::{Filed, IncidentDesk, IncidentStore, ProbeOff};
use crate::symbolize::debuginfod::{self, Debuginfod};

/// What became of an incident, and how long after its window's end.
pub(super) struct Done {
    /// `None` if the desk broke down over it.
    pub(super) filed: Option<Filed>,
    pub(super) took: Duration,
}

/// Files of targets go through parsers that others wrote: a fault in one of them must cost one
/// incident, not all that follow. The panic itself has been said on standard error.
fn unless_it_panics<T>(work: impl FnOnce() -> T) -> Option<T> {
    // What the work leaves half-done is thrown away by the caller.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The recorder's end of the desk.
pub(super) struct Desk {
    inbox: Option<SyncSender<Incident>>,
    pub(super) done: Receiver<Done>,
    /// Incidents handed in and not yet done.
    pub(super) under_way: usize,
    /// Incidents lost because too many were waiting.
    pub(super) full: u64,
    /// Incidents lost because naming or writing them failed unexpectedly.
    pub(super) broken: u64,
    debuginfod: Option<Arc<Debuginfod>>,
}

/// Debug files that were fetched, in bytes on disk: some hundred of the usual size.
const MAX_CACHE_BYTES: u64 = 2 << 30;

impl Desk {
    /// Starts the thread.
    pub(super) fn start(
        store: Arc<IncidentStore>,
        host: String,
        probes_off: Vec<ProbeOff>,
        names: NameSettings,
    ) -> anyhow::Result<Self> {
        let fetched = names.debuginfod.as_ref();
        let debuginfod = fetched
            .map(|from| Debuginfod::start(&from.url, &from.cache, MAX_CACHE_BYTES))
            .transpose()?;
        let source = debuginfod.clone();
        let (inbox, incidents) = sync_channel::<Incident>(MAX_PENDING);
        let (out, done) = channel(MAX_PENDING);
        thread::Builder::new()
            .name("holmes-desk".to_owned())
            .spawn(move || {
                let new = || {
                    let (store, host) = (Arc::clone(&store), host.clone());
                    let names = super::symbolizer(&names, source.clone());
                    IncidentDesk::new(Box::new(names), store, host, probes_off.clone())
                };
                let mut desk = new();
                while let Ok(incident) = incidents.recv() {
                    let window_end = incident.end;
                    let filed = unless_it_panics(|| desk.file(&incident));
                    if filed.is_none() {
                        // It may be in the middle of anything.
                        desk = new();
                    }
                    // Nobody listens any more once the recorder leaves at once.
                    let _ = out
                        .blocking_send(Done { filed, took: clock::monotonic().since(window_end) });
                }
            })
            .context("cannot start the thread that writes incidents")?;
        Ok(Self { inbox: Some(inbox), done, under_way: 0, full: 0, broken: 0, debuginfod })
    }

    /// Hands an incident in.
    pub(super) fn hand_in(&mut self, incident: Incident) {
        let Some(inbox) = &self.inbox else { return };
        match inbox.try_send(incident) {
            Ok(()) => self.under_way += 1,
            Err(TrySendError::Full(incident) | TrySendError::Disconnected(incident)) => {
                self.full += 1;
                error!(
                    "an incident of {} is lost: {MAX_PENDING} wait to be written",
                    incident.target
                );
            }
        }
    }

    /// What became of the requests to a debuginfod server.
    pub(super) fn fetches(&self) -> Vec<(&'static str, u64)> {
        let none = || debuginfod::Fetch::ALL.iter().map(|fetch| (fetch.name(), 0)).collect();
        self.debuginfod.as_ref().map_or_else(none, |server| server.counts().to_vec())
    }

    /// No more incidents come: the thread ends when it has done what it has.
    pub(super) fn close(&mut self) {
        self.inbox = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_its_own_work_only() {
        assert_eq!(unless_it_panics(|| 1), Some(1));
        assert_eq!(unless_it_panics(|| -> u8 { panic!("meant to be") }), None);
    }
}
