//! What the recorder takes beside 1, 10, 100 and 1000 processes, and as many cgroups. The load is
//! the same each time: what grows is what each process and each cgroup costs.
//!
//! Must not: leave a cgroup behind.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::crowd::Crowd;
use super::recorder::{Recorder, Watched};
use super::session::Session;
use super::table::{Row, Table, Unit};
use crate::cgroup::Cgroup;

const PART: &str = "growth";

const HZ: u32 = 49;

/// How many there are; the quick ones are the first three.
const COUNTS: [u32; 4] = [1, 10, 100, 1000];
const QUICK: usize = 3;

/// The recorder reads its signals every 5 s: shorter windows would see that or not.
const WINDOW: Duration = Duration::from_secs(5);

/// Answers that the loop's delay is taken from. Each makes the loop gather all that it counts.
const SCRAPES: u32 = 20;

/// The loop gathers at most every 100 ms; what is asked sooner is answered from memory.
const BETWEEN_SCRAPES: Duration = Duration::from_millis(120);

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a workload fails, or a cgroup cannot be made.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    let counts = &COUNTS[..session.scale(COUNTS.len(), QUICK)];
    for &count in counts {
        // Dropped in reverse: the processes before their cgroup.
        let cgroup = Cgroup::create("bench")?;
        let crowd = Crowd::start(session, count)?;
        for pid in crowd.pids() {
            cgroup.admit(*pid)?;
        }
        rows(session, table, &cgroup, &format!("{count} processes"))?;
    }
    for &count in counts {
        let outer = Cgroup::create("bench")?;
        let mut inner = Vec::new();
        for number in 0..count {
            session.check()?;
            inner.push(outer.child(&number.to_string())?);
        }
        let crowd = Crowd::start(session, count)?;
        for (pid, cgroup) in crowd.pids().iter().zip(&inner) {
            cgroup.admit(*pid)?;
        }
        rows(session, table, &outer, &format!("{count} cgroups"))?;
        drop(crowd);
        drop(inner);
    }
    Ok(())
}

fn rows(session: &Session, table: &mut Table, cgroup: &Cgroup, name: &str) -> Result<()> {
    let none: [OsString; 0] = [];
    let recorder = Recorder::start(session, Watched::Cgroup(cgroup), HZ, &none)?;
    // Until most of them have been sampled: each gets its part of some 40 samples a second.
    session.pause(Duration::from_secs(session.scale(30, 5)))?;
    let mut shares = Vec::new();
    for _ in 0..session.scale(4, 2) {
        let clock = recorder.clock()?;
        session.pause(WINDOW)?;
        shares.push(clock.percent()?);
    }
    table.add(PART, Row::of(format!("{name}: recorder's CPU"), Unit::Percent, &shares));
    let memory = recorder.memory()?.mebibytes();
    table.add(PART, Row::of(format!("{name}: its memory"), Unit::Mebibytes, &[memory]));
    let mut delays = Vec::new();
    for _ in 0..SCRAPES {
        session.pause(BETWEEN_SCRAPES)?;
        let asked = Instant::now();
        recorder.metrics()?;
        delays.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    let row = Row::of(format!("{name}: its answer to a scrape"), Unit::Milliseconds, &delays);
    table.add(PART, row);
    Ok(())
}
