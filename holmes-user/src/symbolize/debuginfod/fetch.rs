//! Fetches one file from a debuginfod server.
//!
//! Must not: write anything but a build's own debug file, or more than fits the cache.

use std::io::{self, Read};
use std::time::Duration;

use thiserror::Error;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::cache::{Cache, StoreError};

/// For the connection and the answer's first bytes: some servers unpack a package meanwhile.
const ANSWER: Duration = Duration::from_secs(60);
/// For one file as a whole: the largest, at 2 MB a second.
const WHOLE: Duration = Duration::from_secs(600);
/// Other servers that a server may point to, one after the other.
const MAX_REDIRECTS: u32 = 4;
/// Bytes of the answer's header.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Why there is no file.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// The server says so.
    #[error("the server does not have it")]
    Absent,
    /// What came is of another build, no ELF file, or too large.
    #[error("what the server sent is no debug file of this build, or too large")]
    Refused,
    /// The server cannot be reached or breaks off.
    #[error("the server cannot be asked")]
    Http(#[source] Box<ureq::Error>),
    /// It cannot be read to its end or written.
    #[error("it cannot be stored")]
    Disk(#[source] io::Error),
}

/// Asks one server.
#[derive(Debug)]
pub(super) struct Fetcher {
    agent: Agent,
    url: String,
}

impl Fetcher {
    /// Of this server. The certificates that the host trusts are trusted.
    pub(super) fn new(url: &str) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_recv_response(Some(ANSWER))
            .timeout_global(Some(WHOLE))
            .max_redirects(MAX_REDIRECTS)
            .max_response_header_size(MAX_HEADER_BYTES)
            // Nothing is read from the environment.
            .proxy(None)
            .user_agent(concat!("holmes-ebpf/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), url: url.trim_end_matches('/').to_owned() }
    }

    /// Fetches the debug file of a build into the cache. The caller has checked the build-id.
    pub(super) fn fetch(&self, build_id: &str, cache: &Cache) -> Result<(), FetchError> {
        let url = format!("{}/buildid/{build_id}/debuginfo", self.url);
        let response = self.agent.get(url).call().map_err(|error| match error {
            ureq::Error::StatusCode(404) => FetchError::Absent,
            other => FetchError::Http(Box::new(other)),
        })?;
        let limit = cache.max_file_bytes();
        // One byte more than is taken: a longer one is seen to be longer.
        let mut body = response.into_body().into_reader().take(limit + 1);
        cache.put(build_id, &mut body).map_err(|error| match error {
            StoreError::Refused => FetchError::Refused,
            StoreError::Disk(error) => FetchError::Disk(error),
        })
    }
}
