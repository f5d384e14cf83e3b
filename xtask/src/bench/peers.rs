//! The same of other profilers, where they are installed: whole stacks, their own CPU time, and how
//! they slow down CPU-bound work.
//!
//! Must not: tune one. Each samples one process at the frequency ours does.

use std::time::Duration;

use anyhow::Result;

use super::language::Language;
use super::session::Session;
use super::slowdown::Effort;
use super::stack_shares;
use super::table::{Row, Table, Unit};
use super::tool::Tool;

const PART: &str = "beside other profilers";

const HZ: u32 = 49;

/// The programs whose stacks are compared.
const LANGUAGES: [Language; 2] = [Language::C, Language::Python];

/// Measures, and adds its rows. A profiler that does not work here is a row that says so.
///
/// # Errors
/// When the run was interrupted.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    for tool in Tool::ALL {
        if !tool.is_here(session) {
            table.add(PART, Row::absent(tool.name(), Unit::Percent, "not installed"));
            continue;
        }
        if let Err(error) = one(session, table, tool) {
            session.check()?;
            let why = format!("{error:#}");
            table.add(PART, Row::absent(tool.name(), Unit::Percent, why));
        }
    }
    Ok(())
}

fn one(session: &Session, table: &mut Table, tool: Tool) -> Result<()> {
    let name = tool.name();
    for language in LANGUAGES.into_iter().filter(|language| language.is_here()) {
        let shares = stack_shares::of(session, tool, language)?;
        let what = format!("{name}: whole stacks, {}", language.name());
        let note = format!("{} samples of {:.1} frames", shares.samples, shares.frames);
        table.add(PART, Row::of(what, Unit::Percent, &[shares.whole]).note(note));
    }

    let busy = Language::C.start(session)?;
    let mut shares = Vec::new();
    for _ in 0..session.scale(3, 1) {
        let observation = tool.observe(session, busy.pid(), HZ)?;
        session.pause(Duration::from_secs(session.scale(10, 4)))?;
        shares.push(observation.cpu_percent()?);
        drop(observation);
    }
    let row = Row::of(format!("{name}: its own CPU"), Unit::Percent, &shares);
    table
        .add(PART, row.note(format!("one busy process, {HZ} Hz, without what it does afterwards")));

    let effort = Effort::cpu(session)?;
    let pairs = effort.pairs(session, &|pid| tool.observe(session, pid, HZ))?;
    let elapsed: Vec<f64> = pairs.iter().map(|pair| pair.elapsed).collect();
    table.add(PART, Row::of(format!("{name}: slowdown, cpu-bound work"), Unit::Percent, &elapsed));
    Ok(())
}
