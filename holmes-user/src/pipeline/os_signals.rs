//! What the program is told by signals.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OsSignal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: cut an incident now.
    Trigger,
    /// SIGTERM, SIGINT: finish.
    End,
}

/// The signals that are listened to.
pub(super) struct OsSignals {
    hangup: Signal,
    user: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl OsSignals {
    /// Begins to listen: from here on none of them ends the process by itself.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            user: listen(SignalKind::user_defined1())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The next one. May be dropped half-way without losing any.
    pub(super) async fn next(&mut self) -> OsSignal {
        tokio::select! {
            _ = self.hangup.recv() => OsSignal::Reload,
            _ = self.user.recv() => OsSignal::Trigger,
            _ = self.terminate.recv() => OsSignal::End,
            _ = self.interrupt.recv() => OsSignal::End,
        }
    }

    /// Stops listening: from here on SIGTERM and SIGINT end the process at once.
    pub(super) fn leave(self) {
        for number in [libc::SIGTERM, libc::SIGINT] {
            // SAFETY: no handler is installed, the kernel's own action is restored.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}
