//! What it does to a Go server's answers that its goroutines are read ten times a second: from outside,
//! and by itself, as a library in it would.
//!
//! Whatever reads from outside takes a CPU's time, of which a small machine has little: the same is done
//! to another process of the same kind, whose answers nobody waits for. What the server loses beyond that
//! is a disturbance. A round has each way once, and is short, so that what else goes on is the same for all;
//! its figures are divided by those of its quiet time. Every other one is turned round.
//!
//! Must not: compare rounds with each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::figure::Figure;
use super::listener::{Listener, Stream};
use super::load::Latencies;
use super::session::{Session, program, workload};
use super::table::{Budget, Row, Table, Unit};
use crate::command;

const PART: &str = "goroutines";

/// Goroutines that wait in the server.
const WAITING: &str = "10000";

/// From one dump to the next.
const PERIOD: Duration = Duration::from_millis(100);

/// What is told of the answers' times: how many of a thousand took longer.
const SHOWN: [(&str, usize); 4] = [("p50", 500), ("p99", 10), ("p99.9", 1), ("max", 0)];

/// How many times as long as with a dump of another process an answer may take. A pause of the tenth of a
/// second between dumps would be many times that.
const BUDGET: f64 = 1.5;

/// What goes on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nothing.
    Quiet,
    /// Nothing either: how far such figures differ.
    QuietAgain,
    /// `holmes-ebpf goroutines`.
    Outside,
    /// The same of the other process.
    Beside,
    /// The runtime's own profile, with this `debug`.
    Inside(u32),
}

const WAYS: [Way; 6] =
    [Way::Quiet, Way::Outside, Way::Beside, Way::QuietAgain, Way::Inside(1), Way::Inside(2)];

/// How long each is gone on with.
const TIME: Duration = Duration::from_secs(3);

/// From one to the next: the server cleans up what it was left with.
const BETWEEN: Duration = Duration::from_millis(300);

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::QuietAgain => "quiet again",
            Self::Outside => "dumped from outside",
            Self::Beside => "another one dumped from outside",
            Self::Inside(1) => "dumps itself, debug=1",
            Self::Inside(_) => "dumps itself, debug=2",
        }
    }
}

/// Measures, and adds its rows.
///
/// # Errors
/// When Go is missing, or the server or a dump fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    let mut bench =
        Bench { server: Server::start(session)?, other: Server::start(session)?, session };
    let rounds = session.scale(20, 4);
    let mut taken = WAYS.map(|_| Vec::new());
    let mut dumps = WAYS.map(|_| Vec::new());
    for round in 0..rounds {
        for step in 0..WAYS.len() {
            let at = if round % 2 == 0 { step } else { WAYS.len() - 1 - step };
            let (latencies, per_second) = bench.phase(WAYS[at])?;
            taken[at].push(latencies);
            dumps[at].push(per_second);
        }
    }
    let of = |way: Way| WAYS.iter().position(|it| *it == way).map_or(&[][..], |at| &taken[at]);
    for (shown, above) in SHOWN {
        let quiet: Vec<f64> = of(Way::Quiet).iter().map(|it| it.but(above)).collect();
        table.add(PART, Row::of(format!("quiet, {shown}"), Unit::Milliseconds, &quiet));
    }
    for (at, way) in WAYS.into_iter().enumerate().filter(|&(_, way)| way != Way::Quiet) {
        let often = Figure::of(&dumps[at]).map_or(0.0, |figure| figure.median);
        let note = if often > 0.0 { format!("{often:.1} dumps a second") } else { String::new() };
        for (shown, above) in SHOWN {
            let row = times(way.name(), shown, &taken[at], of(Way::Quiet), above);
            table.add(PART, row.note(note.clone()));
        }
    }
    for (shown, above) in SHOWN {
        let what = "this one dumped, not another one";
        let row = times(what, shown, of(Way::Outside), of(Way::Beside), above);
        // The longest of a few thousand answers tells of the machine.
        let budget = if above == 0 { Budget::None } else { Budget::AtMost(BUDGET) };
        table.add(PART, row.budget(budget));
    }
    Ok(())
}

/// How many times as long answers took, round by round.
fn times(what: &str, shown: &str, with: &[Latencies], without: &[Latencies], above: usize) -> Row {
    let ratio = |(with, without): (&Latencies, &Latencies)| with.but(above) / without.but(above);
    let ratios: Vec<f64> = with.iter().zip(without).map(ratio).collect();
    Row::of(format!("{what}, {shown}"), Unit::Times, &ratios)
}

/// A server in Go, and where it listens.
struct Server {
    process: Listener,
    address: SocketAddr,
}

impl Server {
    fn start(session: &Session) -> Result<Self> {
        let built = session.file("server-go");
        let mut go = command::of("go", &["build", "-o"]);
        command::run(go.arg(&built).arg(workload("server.go"))).context("the server is in Go")?;
        let mut process = Listener::start(&mut program(&built, &[WAITING]), Stream::Output)?;
        let line = process.hear("ready ", session)?;
        let port = line.trim_start_matches("ready ").parse();
        let port = port.with_context(|| format!("the server said `{line}`"))?;
        Ok(Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }
}

struct Bench<'s> {
    server: Server,
    other: Server,
    session: &'s Session,
}

impl Bench<'_> {
    /// The server's answers while that goes on, and how many dumps in a second there were.
    fn phase(&mut self, way: Way) -> Result<(Latencies, f64)> {
        self.session.pause(BETWEEN)?;
        let address = self.server.address;
        let measure = || Latencies::measure(address, TIME);
        let per_second = |dumps: u32| f64::from(dumps) / TIME.as_secs_f64();
        match way {
            Way::Quiet | Way::QuietAgain => Ok((measure()?, 0.0)),
            Way::Outside | Way::Beside => {
                let server = if way == Way::Outside { &self.server } else { &self.other };
                let (latencies, dumps) = self.while_dumped(server.process.pid(), measure)?;
                Ok((latencies, per_second(dumps)))
            }
            Way::Inside(debug) => {
                self.server.process.tell(&format!("dump {debug}"))?;
                let latencies = measure()?;
                self.server.process.tell("rest")?;
                let line = self.server.process.hear("rested", self.session)?;
                let dumps = line.split(' ').nth(2).and_then(|word| word.parse().ok());
                let dumps = dumps.with_context(|| format!("the server said `{line}`"))?;
                Ok((latencies, per_second(dumps)))
            }
        }
    }

    /// Measures while `holmes-ebpf goroutines` is run again and again.
    fn while_dumped(
        &self,
        pid: u32,
        measure: impl FnOnce() -> Result<Latencies>,
    ) -> Result<(Latencies, u32)> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let dumper = scope.spawn(|| {
                let begin = Instant::now();
                let mut dumps = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let pid = pid.to_string();
                    let arguments = ["goroutines", "-q", "--format", "debug1", "-p", &pid];
                    command::output(&mut command::of(self.session.recorder(), &arguments))?;
                    dumps += 1;
                    let next = begin + PERIOD * dumps;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                Ok(dumps)
            });
            let latencies = measure();
            is_over.store(true, Ordering::Relaxed);
            let dumps = match dumper.join() {
                Ok(dumps) => dumps,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            dumps.and_then(|dumps| Ok((latencies?, dumps)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_measured_once_in_a_round_and_has_a_name() {
        let names: std::collections::BTreeSet<&str> = WAYS.map(Way::name).into();
        assert_eq!(names.len(), WAYS.len());
        assert!(WAYS.contains(&Way::Quiet), "the others are divided by it");
    }
}
