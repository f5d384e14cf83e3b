//! The few HTTP requests the tests make, over a plain socket.
//!
//! Must not: depend on the crate that serves them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::Context;

use crate::transcript::HANG_GUARD;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines, as they came.
    pub headers: String,
    /// The body as text.
    pub body: String,
}

/// Makes one request without a body.
///
/// # Errors
/// The address does not answer, or not in HTTP.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, HANG_GUARD)
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(HANG_GUARD))?;
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n"
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).with_context(|| format!("{method} {path}"))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("reading {method} {path}"))?;
    parse(&bytes).with_context(|| format!("{method} {path} at {address}"))
}

fn parse(bytes: &[u8]) -> anyhow::Result<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a header")?;
    let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1).context("an answer without a status")?.parse()?;
    let chunked = headers.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Ok(Response { status, headers: headers.to_owned(), body })
}

fn unchunk(mut rest: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(length.trim(), 16).context("a chunk's length")?;
        if length == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..length).context("a chunk is cut short")?);
        rest = after.get(length + 2..).context("a chunk without its end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_chunked_answers_are_read() -> anyhow::Result<()> {
        let plain = parse(b"HTTP/1.1 202 Accepted\r\nA: b\r\n\r\n{}")?;
        assert_eq!((plain.status, plain.body.as_str()), (202, "{}"));
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(parse(chunks)?.body, "abcd");
        assert!(parse(b"SSH-2.0").is_err());
        Ok(())
    }
}
