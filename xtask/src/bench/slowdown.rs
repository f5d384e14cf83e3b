//! How much longer some kinds of work take while the recorder watches.
//!
//! Work with and without alternates in the order ABBA, so that a machine that becomes slower or
//! faster does so for both. A pair is one of each beside each other; its ratio is one value.
//!
//! Must not: compare runs that are not neighbours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::figure::Figure;
use super::listener::{Listener, Stream};
use super::recorder::{Recorder, Watched};
use super::session::{Session, program};
use super::table::{Budget, Row, Table, Unit};

const PART: &str = "slowdown";

/// The frequency that users have.
const HZ: u32 = 49;

/// A kind of work, rounds of it that take some tenths of a second, and its budget in percent.
///
/// `mmap` and `thread` do nothing with what they ask for: no program is bound by them as much.
/// `buffer` is mmap as programs use it, and has no budget of its own. `switch` leaves the CPU a hundred
/// thousand times in a second, twice in a round, on a machine that is no faster than that of the README's figures.
const KINDS: [(&str, u64, Budget); 6] = [
    ("cpu", 2000, Budget::AtMost(1.0)),
    ("fault", 200, Budget::AtMost(5.0)),
    ("mmap", 100_000, Budget::AtMost(5.0)),
    ("buffer", 2000, Budget::None),
    ("thread", 5000, Budget::AtMost(5.0)),
    ("switch", 20_000, Budget::AtMost(5.0)),
];

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a workload fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    let none: [OsString; 0] = [];
    for (kind, rounds, budget) in KINDS {
        let what = format!("{kind}-bound work");
        let own = std::process::id();
        let probe = probe_of(kind);
        if !Recorder::start(session, Watched::Processes(&[own]), HZ, &none)?.has(probe)? {
            let why = format!("the recorder's probe `{probe}` is off here");
            table.add(PART, Row::absent(what, Unit::Percent, why));
            continue;
        }
        let effort = Effort::of(session, kind, rounds)?;
        let watch = |pid: u32| Recorder::start(session, Watched::Processes(&[pid]), HZ, &none);
        let pairs = effort.pairs(session, &watch)?;
        let each = |value: fn(&Slowdown) -> f64| pairs.iter().map(value).collect::<Vec<f64>>();
        let row = Row::of(what.clone(), Unit::Percent, &each(|pair| pair.elapsed));
        table.add(PART, row.budget(budget));
        let median = |value| Figure::of(&each(value)).map_or(0.0, |figure| figure.median);
        let (added, round) = (median(|pair| pair.added_ns), median(|pair| pair.round_ns));
        let note = format!("{added:.0} ns in each of {} rounds of {round:.0}", effort.rounds);
        let row = Row::of(format!("{what}, its CPU time"), Unit::Percent, &each(|pair| pair.cpu));
        table.add(PART, row.note(note));
    }
    Ok(())
}

/// The probe without which this work would go on undisturbed.
fn probe_of(kind: &str) -> &'static str {
    match kind {
        "mmap" | "buffer" => "memory",
        "thread" => "threads",
        "switch" => "waits",
        _ => "samples",
    }
}

/// What one pair lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// By the wall clock, in percent.
    pub elapsed: f64,
    /// Of the work's own CPU time, in percent: what others do on the machine is not in it.
    pub cpu: f64,
    /// CPU time that each round took longer, in nanoseconds.
    pub added_ns: f64,
    /// CPU time of a round when nobody watched, in nanoseconds.
    round_ns: f64,
}

/// How long one run of some work took, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Taken {
    elapsed: f64,
    cpu: f64,
}

impl Taken {
    /// Reads `done ELAPSED CPU`.
    fn read(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("done ")?.split(' ').map(str::parse);
        Some(Self { elapsed: numbers.next()?.ok()?, cpu: numbers.next()?.ok()? })
    }

    fn slowdown(self, without: Self, rounds: u64) -> Slowdown {
        let percent = |with: f64, without: f64| 100.0 * (with / without - 1.0);
        Slowdown {
            elapsed: percent(self.elapsed, without.elapsed),
            cpu: percent(self.cpu, without.cpu),
            added_ns: (self.cpu - without.cpu) / rounds as f64,
            round_ns: without.cpu / rounds as f64,
        }
    }
}

/// A fixed amount of one kind of work.
#[derive(Debug)]
pub struct Effort {
    program: PathBuf,
    kind: &'static str,
    rounds: u64,
}

impl Effort {
    /// As much as takes some seconds here and now. `rounds` is a first try.
    ///
    /// # Errors
    /// When it cannot be built, or fails.
    pub fn of(session: &Session, kind: &'static str, rounds: u64) -> Result<Self> {
        let program = session.c_program("effort", &[])?;
        let mut effort = Self::exactly(program, kind, rounds);
        let tried = effort.run(session, &|_| Ok(()), false)?;
        let wanted = Duration::from_millis(session.scale(4000, 1500)).as_nanos() as f64;
        effort.rounds = (rounds as f64 * wanted / tried.elapsed).max(1.0) as u64;
        Ok(effort)
    }

    /// So many rounds, however long they take.
    pub fn exactly(program: PathBuf, kind: &'static str, rounds: u64) -> Self {
        Self { program, kind, rounds }
    }

    /// As much CPU-bound work.
    ///
    /// # Errors
    /// As [`Effort::of`].
    pub fn cpu(session: &Session) -> Result<Self> {
        let (kind, rounds, _) = KINDS[0];
        Self::of(session, kind, rounds)
    }

    /// Runs it in pairs, one of each with what `watch` starts for its process.
    ///
    /// # Errors
    /// When it fails, or `watch` does.
    pub fn pairs<W>(
        &self,
        session: &Session,
        watch: &dyn Fn(u32) -> Result<W>,
    ) -> Result<Vec<Slowdown>> {
        let mut pairs = Vec::new();
        for _ in 0..session.scale(6, 2) {
            let before = self.run(session, watch, false)?;
            let first = self.run(session, watch, true)?;
            let second = self.run(session, watch, true)?;
            let after = self.run(session, watch, false)?;
            pairs
                .extend([first.slowdown(before, self.rounds), second.slowdown(after, self.rounds)]);
        }
        Ok(pairs)
    }

    fn run<W>(
        &self,
        session: &Session,
        watch: &dyn Fn(u32) -> Result<W>,
        watched: bool,
    ) -> Result<Taken> {
        let mut command = self.command();
        let mut work = Listener::start(&mut command, Stream::Output)?;
        work.hear("ready", session)?;
        let watcher = watched.then(|| watch(work.pid())).transpose()?;
        // What a watcher does to begin is not the work's slowdown; without one it waits as long.
        session.pause(Duration::from_millis(500))?;
        work.tell("go")?;
        let line = work.hear("done", session)?;
        drop(watcher);
        Taken::read(&line).with_context(|| format!("the workload said `{line}`"))
    }

    fn command(&self) -> std::process::Command {
        let path: &Path = &self.program;
        program(path, &[self.kind, &self.rounds.to_string()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_ratio() {
        let without = Taken::read("done 2000 1000").unwrap();
        let slowdown = Taken { elapsed: 2100.0, cpu: 990.0 }.slowdown(without, 5);
        assert!((slowdown.elapsed - 5.0).abs() < 1e-9 && (slowdown.cpu + 1.0).abs() < 1e-9);
        assert_eq!((slowdown.added_ns, slowdown.round_ns), (-2.0, 200.0));
        assert_eq!(Taken::read("done 2000"), None);
        assert_eq!(Taken::read("failed"), None);
    }
}
