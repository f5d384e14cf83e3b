//! Why the recorder cannot serve, and what to do about it.
//!
//! Must not: touch the network.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// An error of the server. The recorder can go on without it.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}: the address is in use, perhaps by another recorder; choose \
         another with `--listen ADDR`, or `--listen off` to serve nothing"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Any other reason not to listen.
    #[error(
        "cannot listen on {address}; choose an address and port of this host with `--listen ADDR`, \
         or `--listen off` to serve nothing"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A metric could not be registered or written.
    #[error("cannot make the metrics: this is a fault of the recorder; report it")]
    Metrics(#[from] prometheus::Error),
}

impl ServeError {
    /// Of what the kernel answered to listening on an address.
    pub(super) fn listen(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { address, source },
            _ => Self::Listen { address, source },
        }
    }
}
