//! Whether the recorder lives, and whether it records: what `/healthz` and `/readyz` say.
//!
//! Must not: find out for itself. The recorder's loop beats and says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// The recorder's loop beats at least once a second. Without a beat for this long it hangs, and
/// only a restart helps: long enough for a host under the very load the recorder is there for.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);

/// A probe, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeState {
    /// Its name.
    pub name: String,
    /// Whether it is on.
    pub on: bool,
    /// Why it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether the recorder records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet, or no more.
    NotReady {
        /// Why not.
        reason: String,
    },
    /// It samples.
    Ready {
        /// With these probes.
        probes: Vec<ProbeState>,
    },
}

/// What the recorder's loop says of itself. Shared between it and the server.
#[derive(Debug)]
pub struct Status {
    created: Instant,
    heartbeat_limit: Duration,
    /// Milliseconds from `created` to the last beat.
    last_beat: AtomicU64,
    readiness: Mutex<Readiness>,
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

impl Status {
    /// Alive as of now, and not ready yet.
    pub fn new() -> Self {
        Self::with_heartbeat_limit(HEARTBEAT_LIMIT)
    }

    pub(super) fn with_heartbeat_limit(heartbeat_limit: Duration) -> Self {
        Self {
            created: Instant::now(),
            heartbeat_limit,
            last_beat: AtomicU64::new(0),
            readiness: Mutex::new(Readiness::NotReady { reason: "starting".to_owned() }),
        }
    }

    /// The recorder's loop is alive. To be called at least every second.
    pub fn beat(&self) {
        self.last_beat.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Says whether it records.
    pub fn set_readiness(&self, readiness: Readiness) {
        *self.readiness.lock().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the loop has not beaten, if that is too long.
    pub(super) fn overdue(&self) -> Option<Duration> {
        let age = self.now_ms().saturating_sub(self.last_beat.load(Ordering::Relaxed));
        let age = Duration::from_millis(age);
        (age > self.heartbeat_limit).then_some(age)
    }

    fn now_ms(&self) -> u64 {
        self.created.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }
}
