//! What the recorder itself takes: CPU time while all CPUs are busy, and memory beside many
//! processes. Both on the whole host, as the budgets have it; only totals are read.
//!
//! Must not: cut an incident.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;

use super::crowd::Crowd;
use super::kernel_side::RunTimes;
use super::language::Language;
use super::listener::Listener;
use super::recorder::{Recorder, Watched};
use super::session::Session;
use super::table::{Budget, Row, Table, Unit};

const PART: &str = "footprint";

const HZ: u32 = 49;

/// Percent of one CPU, for each CPU there is.
const CPU_BUDGET: f64 = 0.3;
const CPU_PROCESSES: u32 = 50;

/// 2^20 bytes, resident and in the kernel.
const MEMORY_BUDGET: f64 = 96.0;
const MEMORY_PROCESSES: u32 = 200;

/// The recorder reads its signals every 5 s: shorter windows would see that or not.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a workload fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    cpu(session, table)?;
    memory(session, table)
}

fn cpu(session: &Session, table: &mut Table) -> Result<()> {
    let cpus = session.cpus() as f64;
    let mut busy: Vec<Listener> = Vec::new();
    for _ in 0..session.cpus() {
        busy.push(Language::C.start(session)?);
    }
    let _crowd = Crowd::start(session, CPU_PROCESSES)?;
    let recorder = whole_host(session)?;
    session.pause(WINDOW)?;
    let windows = session.scale(6, 2);
    let mut shares = Vec::new();
    for _ in 0..windows {
        let clock = recorder.clock()?;
        session.pause(WINDOW)?;
        shares.push(clock.percent()? / cpus);
    }
    let what = format!("recorder's CPU for each CPU, {HZ} Hz, all busy, {CPU_PROCESSES} processes");
    let row = Row::of(what, Unit::Percent, &shares).budget(Budget::AtMost(CPU_BUDGET));
    table.add(PART, row.note("of one CPU"));

    // Counting run times costs a little itself: not while the recorder's own time is measured.
    let _counted = RunTimes::count()?;
    let probes =
        || -> Result<f64> { Ok(recorder.metrics()?.sum("holmes_probe_run_seconds_total")) };
    let mut shares = Vec::new();
    for _ in 0..windows {
        let before = probes()?;
        session.pause(WINDOW)?;
        shares.push(100.0 * (probes()? - before) / WINDOW.as_secs_f64() / cpus);
    }
    let row = Row::of("all probes' run time for each CPU, beside it", Unit::Percent, &shares);
    table.add(PART, row.note("of one CPU, in the interrupted processes' time"));
    Ok(())
}

fn memory(session: &Session, table: &mut Table) -> Result<()> {
    // A host has more than one program: some of them large, with much to look up in.
    let mut languages = Vec::new();
    for language in Language::ALL.into_iter().filter(|language| language.is_here()) {
        languages.push(language.start(session)?);
    }
    let count = MEMORY_PROCESSES - languages.len() as u32;
    let _crowd = Crowd::start(session, count)?;
    let recorder = whole_host(session)?;
    // Until most of them have been sampled.
    session.pause(Duration::from_secs(session.scale(60, 15)))?;
    let mut all = Vec::new();
    let mut kernel = Vec::new();
    for _ in 0..session.scale(6, 3) {
        session.pause(Duration::from_secs(1))?;
        let memory = recorder.memory()?;
        all.push(memory.mebibytes());
        kernel.push(memory.kernel as f64 / f64::from(1 << 20));
    }
    let what = format!("recorder's memory, {MEMORY_PROCESSES} processes");
    let row = Row::of(what, Unit::Mebibytes, &all).budget(Budget::AtMost(MEMORY_BUDGET));
    let names: Vec<&str> =
        Language::ALL.into_iter().filter(|l| l.is_here()).map(Language::tool).collect();
    table.add(PART, row.note(format!("{} among them", names.join(", "))));
    table.add(PART, Row::of("of it BPF maps and programs", Unit::Mebibytes, &kernel));
    Ok(())
}

fn whole_host(session: &Session) -> Result<Recorder> {
    let none: [OsString; 0] = [];
    Recorder::start(session, Watched::Host, HZ, &none)
}
