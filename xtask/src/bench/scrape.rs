//! The recorder's HTTP door: one request over a plain socket, and its metrics read.
//!
//! Must not: know which metrics there should be.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A recorder that does not answer for so long has hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// More is no page of metrics.
const MOST_BYTES: u64 = 16 << 20;

/// Makes one request without a body and gives the answer's body.
///
/// # Errors
/// When nobody answers, or the status is not of the 200s.
pub fn request(address: SocketAddr, method: &str, path: &str) -> Result<String> {
    let asked = || format!("{method} http://{address}{path}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(asked)?;
    stream.set_read_timeout(Some(PATIENCE)).with_context(asked)?;
    // HTTP/1.0: an answer to it is neither in chunks nor followed by another.
    let text = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).with_context(asked)?;
    let mut answer = String::new();
    stream.take(MOST_BYTES).read_to_string(&mut answer).with_context(asked)?;
    body(&answer).with_context(asked)
}

fn body(answer: &str) -> Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of headers")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !(status.len() == 3 && status.starts_with('2')) {
        bail!("the answer is {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// A page of metrics: `name{labels}` as it stands there, and its value.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format of Prometheus. Lines that are not of it are skipped.
    pub fn parse(page: &str) -> Self {
        let series = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(page.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect())
    }

    /// The sum over the series of this name, whatever their labels; 0 where there is none.
    pub fn sum(&self, name: &str) -> f64 {
        let named = |key: &&String| key.split('{').next() == Some(name);
        self.0.iter().filter(|(key, _)| named(key)).map(|(_, value)| value).sum()
    }

    /// The values of the series of this name, with their first label's value.
    pub fn by_label<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(key, &value)| {
            let labels = key.strip_prefix(name)?.strip_prefix('{')?;
            Some((labels.split('"').nth(1)?, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_total b\na_total{probe=\"samples\"} 2\na_total{probe=\"x y\"} 3\n\
                        a_total_more 9\nb 1e3\nno value\n\n";

    #[test]
    fn series_are_summed_and_listed_by_label() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.sum("a_total"), 5.0);
        assert_eq!(metrics.sum("b"), 1000.0);
        assert_eq!(metrics.sum("absent"), 0.0);
        let listed: Vec<_> = metrics.by_label("a_total").collect();
        assert_eq!(listed, [("samples", 2.0), ("x y", 3.0)]);
    }

    #[test]
    fn an_answer_is_its_body_or_an_error() {
        assert_eq!(body("HTTP/1.1 202 Accepted\r\nA: b\r\n\r\nx\n").unwrap(), "x\n");
        let refused = body("HTTP/1.1 503 Busy\r\n\r\nlater").unwrap_err().to_string();
        assert!(refused.contains("503") && refused.contains("later"), "{refused}");
        assert!(body("SSH-2.0").is_err());
    }
}
