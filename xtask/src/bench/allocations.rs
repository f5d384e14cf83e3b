//! What it costs a program that its allocations are recorded: `record --allocations`, which is off
//! unless somebody asks for it, and then for a bounded time.
//!
//! Pairs with and without, as [`super::slowdown`] has them. Work that does nothing but allocate is
//! what no program does; it shows what each call costs.
//!
//! Must not: compare runs that are not neighbours.

use anyhow::Result;

use super::listener::{Listener, Stream};
use super::session::{Session, workload};
use super::slowdown::{Effort, Slowdown};
use super::table::{Row, Table, Unit};
use crate::command;

const PART: &str = "allocations";

/// Pairs of `malloc` and `free`. As many as take a few seconds while they are recorded, and a few
/// milliseconds otherwise: what is of interest is the difference. So for the other rounds.
const PAIRS: u64 = 200_000;

/// Programs that do something with what they allocate, and their rounds.
const PROGRAMS: [(&str, &str, u64); 2] = [
    ("JSON in Python", "json", 2000),
    ("JSON in Python, each object by malloc", "json-malloc", 60),
];

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a workload fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    let watch = |pid: u32| recording(session, pid);
    let each = |pairs: &[Slowdown], value: fn(&Slowdown) -> f64| -> Vec<f64> {
        pairs.iter().map(value).collect()
    };
    let effort = Effort::exactly(session.c_program("effort", &[])?, "malloc", PAIRS);
    let pairs = effort.pairs(session, &watch)?;
    let added = Row::of("malloc and free", Unit::Nanoseconds, &each(&pairs, |pair| pair.added_ns));
    table.add(PART, added.note("added to each pair of calls".to_owned()));
    table.add(PART, times("malloc and free", &each(&pairs, |pair| pair.elapsed)));
    for (what, kind, rounds) in PROGRAMS {
        let effort = Effort::exactly(workload("effort.py"), kind, rounds);
        let pairs = effort.pairs(session, &watch)?;
        table.add(PART, times(what, &each(&pairs, |pair| pair.elapsed)));
    }
    Ok(())
}

/// How many times as long something takes that is so many percent slower.
fn times(what: &str, slower: &[f64]) -> Row {
    let times: Vec<f64> = slower.iter().map(|percent| 1.0 + percent / 100.0).collect();
    Row::of(what, Unit::Count, &times).note("times as long while recorded".to_owned())
}

/// Starts to record what a process allocates, until it is dropped.
fn recording(session: &Session, pid: u32) -> Result<Listener> {
    let mut command = command::of(session.recorder(), &["record", "--allocations", "-d", "1h"]);
    command.args(["--pid", &pid.to_string(), "-o"]).arg(session.file("allocations.pb.gz"));
    let mut recorder = Listener::start(&mut command, Stream::Error)?;
    recorder.hear("recording the allocations", session)?;
    Ok(recorder)
}
