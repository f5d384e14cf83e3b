//! A steady load over HTTP, and how long each answer took.
//!
//! Requests are due at fixed times, whether the one before was answered or not, and an answer's time is
//! counted from when its request was due: a server that pauses is late for all that were due meanwhile.
//!
//! Must not: ask faster because it was answered late.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Connections that are asked in turn.
const CONNECTIONS: u32 = 4;

/// Time between two requests on one connection: a thousand in a second on all together, which is a small
/// part of what one CPU answers.
const PERIOD: Duration = Duration::from_millis(4);

/// A server that does not answer for so long has hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of an answer at most.
const MOST_BYTES: usize = 4096;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// How long answers took, in milliseconds, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies(Vec<f64>);

impl Latencies {
    /// Asks for so long.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn measure(address: SocketAddr, time: Duration) -> Result<Self> {
        let connect = |_| connect(address);
        let connections = (0..CONNECTIONS).map(connect).collect::<Result<Vec<TcpStream>>>()?;
        let begin = Instant::now();
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS)
                .zip(connections)
                .map(|(number, connection)| {
                    // Evenly between those of the others.
                    let first = begin + PERIOD * number / CONNECTIONS;
                    scope.spawn(move || ask(connection, first, time))
                })
                .collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(latencies) => latencies,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Result<Vec<Vec<f64>>>>()
        })?;
        Ok(Self::of(all.concat()))
    }

    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The shortest time that at most so many of a thousand exceed; no number without answers.
    pub fn but(&self, of_thousand: usize) -> f64 {
        let above = self.0.len() * of_thousand / 1000;
        let at = self.0.len().checked_sub(1 + above);
        at.and_then(|at| self.0.get(at)).copied().unwrap_or(f64::NAN)
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let asked = || format!("cannot connect to {address}");
    let connection = TcpStream::connect_timeout(&address, PATIENCE).with_context(asked)?;
    connection.set_read_timeout(Some(PATIENCE)).with_context(asked)?;
    connection.set_nodelay(true).with_context(asked)?;
    Ok(connection)
}

/// Asks on one connection, at `first` and then once in each period.
fn ask(mut connection: TcpStream, first: Instant, time: Duration) -> Result<Vec<f64>> {
    let count = time.as_nanos() / PERIOD.as_nanos();
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(MOST_BYTES);
    for number in 0..u32::try_from(count).context("too long")? {
        let due = first + PERIOD * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        connection.write_all(REQUEST).context("cannot ask the server")?;
        answer.clear();
        let mut part = [0; MOST_BYTES];
        while !is_whole(&answer) {
            let read = connection.read(&mut part).context("the server does not answer")?;
            anyhow::ensure!(read > 0 && answer.len() < MOST_BYTES, "the answer has no end");
            answer.extend(part.iter().take(read));
        }
        latencies.push(due.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// Whether an answer has come to its end.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    len.is_some_and(|len: usize| body.len() >= len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_above_as_was_said() {
        let latencies = Latencies::of((1..=2000).rev().map(f64::from).collect());
        let found = [500, 10, 1, 0].map(|of_thousand| latencies.but(of_thousand));
        assert_eq!(found, [1000.0, 1980.0, 1998.0, 2000.0]);
        assert_eq!(Latencies::of(vec![7.0]).but(500), 7.0);
        assert!(Latencies::of(Vec::new()).but(0).is_nan());
    }

    #[test]
    fn an_answer_ends_with_its_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(is_whole(answer));
        assert!(!is_whole(&answer[..answer.len() - 1]));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n"));
    }

    /// A server that answers all that were asked during a pause at its end.
    #[test]
    fn what_is_due_during_a_pause_is_late() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let begin = Instant::now();
            let answers = listener.incoming().take(CONNECTIONS as usize).map(|connection| {
                let mut connection = connection.unwrap();
                std::thread::spawn(move || {
                    let mut request = [0; REQUEST.len()];
                    while connection.read_exact(&mut request).is_ok() {
                        let pause = Duration::from_millis(300).saturating_sub(begin.elapsed());
                        std::thread::sleep(pause);
                        connection.write_all(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n").unwrap();
                    }
                })
            });
            answers.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        });
        let latencies = Latencies::measure(address, Duration::from_millis(400)).unwrap();
        server.join().unwrap();
        // One in each connection would wait without the others that were due.
        let late = latencies.0.iter().filter(|&&latency| latency > 20.0).count();
        assert!(late > 10 * CONNECTIONS as usize, "{latencies:?}");
    }
}
