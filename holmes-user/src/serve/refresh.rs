//! A scrape asks the recorder for the totals of now: nobody gathers what nobody looks at.
//!
//! Must not: wait for a recorder that hangs. Its last totals are shown then.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Scrapes that wait for the recorder's loop at most. It answers all of them at once.
pub const REFRESH_QUEUE: usize = 8;

/// How long a scrape waits for the totals of now. The loop answers within milliseconds; it may be
/// in the middle of a drain under a flood, and Prometheus waits ten seconds by default.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// Somebody is about to look at the metrics.
#[derive(Debug)]
pub struct RefreshRequest(oneshot::Sender<()>);

impl RefreshRequest {
    /// The metrics are up to date.
    pub fn done(self) {
        // The client may have gone.
        let _ = self.0.send(());
    }
}

/// Asks for the totals of now, and waits for them as long as is reasonable.
pub(super) async fn refresh(recorder: &mpsc::Sender<RefreshRequest>) {
    let (request, done) = oneshot::channel();
    if recorder.try_send(RefreshRequest(request)).is_ok() {
        // Too late or never: the last totals are shown.
        let _ = timeout(REFRESH_TIMEOUT, done).await;
    }
}
