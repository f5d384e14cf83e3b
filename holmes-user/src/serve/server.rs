//! The listening socket and its connections, within bounds that no client can stretch.
//!
//! One request per connection: a scrape every few seconds gains nothing from keeping one open, and
//! so one deadline covers a slow sender, a slow reader and an idle client alike.
//!
//! Must not: know the routes.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::error::ServeError;
use super::metrics::{ConnectionDrop, Metrics};
use super::refresh::RefreshRequest;
use super::routes;
use super::status::Status;
use super::trigger::TriggerRequest;

/// Connections at the same time; more wait in the kernel's queue. A few scrapers and probes need
/// one each, for milliseconds.
const MAX_CONNECTIONS: usize = 64;

/// Bytes of a request's head and of a connection's buffer: the smallest that hyper allows, and more
/// than any scraper sends.
const MAX_HEAD_BYTES: usize = 8192;

/// Headers of a request. Prometheus sends 6, a browser about 15.
const MAX_HEADERS: usize = 64;

/// How long nothing is accepted after an error: without file descriptors, trying again at once
/// would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections may finish after the end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    /// From the connection to the end of the request's head.
    pub(super) head: Duration,
    /// From the connection to the last byte of the answer.
    pub(super) whole: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { head: Duration::from_secs(5), whole: Duration::from_secs(15) }
    }
}

/// What the server shows, and where it sends triggers.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/healthz` and `/readyz`.
    pub status: Arc<Status>,
    /// For `/trigger`, with room for [`super::TRIGGER_QUEUE`].
    pub triggers: mpsc::Sender<TriggerRequest>,
    /// For `/metrics`, with room for [`super::REFRESH_QUEUE`].
    pub refreshes: mpsc::Sender<RefreshRequest>,
}

/// What the routes see.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Arc<Status>,
    pub(super) triggers: mpsc::Sender<TriggerRequest>,
    pub(super) refreshes: mpsc::Sender<RefreshRequest>,
    pub(super) address: SocketAddr,
}

/// A socket that listens, and is not served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: ClientLimits,
}

impl Server {
    /// Listens on an address; port 0 takes a free one. Needs no runtime, so that a wrong address
    /// is said before anything else is set up.
    ///
    /// # Errors
    /// When the address is in use, is not this host's, or needs privileges.
    pub fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let listen = || -> std::io::Result<_> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address, limits: ClientLimits::default() })
        };
        listen().map_err(|error| ServeError::listen(address, error))
    }

    #[cfg(test)]
    pub(super) fn with_limits(self, limits: ClientLimits) -> Self {
        Self { limits, ..self }
    }

    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets connections finish within two seconds. Needs a tokio
    /// runtime with I/O and time.
    ///
    /// # Errors
    /// When the runtime refuses the socket. What a client does is never an error.
    pub async fn run(
        self,
        state: ServerState,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let Self { listener, address, limits } = self;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| ServeError::listen(address, error))?;
        let ServerState { metrics, status, triggers, refreshes } = state;
        let shared = Shared { metrics: metrics.clone(), status, triggers, refreshes, address };
        let router = routes::router(shared);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                // A connection that panicked is logged by the panic itself.
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(
                                serve(stream, router.clone(), metrics.clone(), limits));
                        }
                        Err(error) => {
                            metrics.count_dropped(ConnectionDrop::Accept);
                            tracing::debug!("cannot accept a connection on {address}: {error}");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
        drop(listener);
        let finish = async { while connections.join_next().await.is_some() {} };
        // What is left after that is cut off when the set is dropped.
        let _ = timeout(SHUTDOWN_GRACE, finish).await;
        Ok(())
    }
}

async fn serve(stream: TcpStream, router: Router, metrics: Arc<Metrics>, limits: ClientLimits) {
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits.whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_timeout() => metrics.count_dropped(ConnectionDrop::Timeout),
        Ok(Err(_)) => metrics.count_dropped(ConnectionDrop::Protocol),
        Err(_) => metrics.count_dropped(ConnectionDrop::Timeout),
    }
}
