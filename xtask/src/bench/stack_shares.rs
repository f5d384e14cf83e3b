//! How many stacks reach their outermost frame, and how many frames have a name, by language.
//!
//! Must not: help a program to be walked.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::entry::Entry;
use super::language::Language;
use super::session::Session;
use super::stacks::{self, Shares};
use super::table::{Budget, Row, Table, Unit};
use super::tool::Tool;

const PART: &str = "stacks";

/// Percent of the samples of native programs.
const BUDGET: f64 = 99.5;

/// As often as keeps a profile of seconds meaningful.
const HZ: u32 = 199;

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a program fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    for language in Language::ALL {
        let (whole, named) = (
            format!("whole stacks, {}", language.name()),
            format!("named frames, {}", language.name()),
        );
        if !language.is_here() {
            let why = format!("{} is not installed", language.tool());
            table.add(PART, Row::absent(whole, Unit::Percent, why));
            continue;
        }
        let shares = of(session, Tool::Holmes, language)?;
        let budget = if language.is_native() { Budget::AtLeast(BUDGET) } else { Budget::None };
        let note = format!("{} samples of {:.1} frames", shares.samples, shares.frames);
        table.add(PART, Row::of(whole, Unit::Percent, &[shares.whole]).budget(budget).note(note));
        table.add(PART, Row::of(named, Unit::Percent, &[shares.named]));
    }
    Ok(())
}

/// The shares of a language's program, as this profiler sees it.
///
/// # Errors
/// When the profiler or the program fails.
pub fn of(session: &Session, tool: Tool, language: Language) -> Result<Shares> {
    let program = language.start(session)?;
    let entry = Entry::of(program.pid());
    let observation = tool.observe(session, program.pid(), HZ)?;
    session.pause(Duration::from_secs(session.scale(10, 3)))?;
    let taken = observation.stacks(session)?;
    let is_entry = |frame: &str| entry.as_ref().is_some_and(|entry| entry.is(frame));
    let shares = stacks::shares(&taken, &is_entry);
    ensure!(shares.samples > 0, "{}: no sample of a busy process", tool.name());
    Ok(shares)
}
