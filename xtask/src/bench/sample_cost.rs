//! Kernel time of one CPU sample, and of one frame of it: by the run time that the kernel counts
//! for the sampling program, on stacks of a known depth.
//!
//! The sampling program may hand on to others by tail calls. The kernel counts the whole chain as
//! one run of the first program, so its figures are those of the chain. The recorder adds up the
//! programs of a probe: should a kernel count the others by themselves, their time is in it too.
//!
//! Must not: count runs that took no sample. On a CPU that executes something else the program ends
//! early; what such a run costs is measured on its own, and subtracted.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::figure::{on_line, slope};
use super::kernel_side::RunTimes;
use super::listener::{Listener, Stream};
use super::recorder::{Recorder, Watched};
use super::scrape::Metrics;
use super::session::{Session, program};
use super::stacks;
use super::table::{Budget, Row, Table, Unit};
use crate::command;

const PART: &str = "kernel time of a sample";

/// The budget, in nanoseconds, for a sample of [`FRAMES`]. It is for the work itself, and so for
/// [`WARM_HZ`]; at [`USUAL_HZ`] most of the time goes into caches that others have filled, and how
/// much depends on those others.
const BUDGET_NS: f64 = 3000.0;
const FRAMES: f64 = 20.0;

/// Calls below main of the two workloads that [`FRAMES`] lies between.
const DEPTHS: [u32; 2] = [5, 45];

/// The highest frequency that the recorder takes without keeping step with a clock tick: code and
/// data of the probe stay in the CPU's caches. And the one that users have.
const WARM_HZ: u32 = 999;
const USUAL_HZ: u32 = 49;

/// The probe whose programs take the samples, as `/metrics` calls it.
const SAMPLER: &str = "samples";

/// With frame pointers, as Go programs and some distributions have them, and without, as Debian's.
const BUILDS: [(&str, &str); 2] = [
    ("with frame pointers", "-fno-omit-frame-pointer"),
    ("without frame pointers", "-fomit-frame-pointer"),
];

/// Measures, and adds its rows.
///
/// # Errors
/// When the recorder or a workload fails.
pub fn run(session: &Session, table: &mut Table) -> Result<()> {
    let _counted = RunTimes::count()?;
    for hz in [WARM_HZ, USUAL_HZ] {
        let missed = missed_run_ns(session, hz)?;
        for (name, flag) in BUILDS {
            let depth = session.c_program("depth", &[flag])?;
            let mut costs: [Vec<f64>; 2] = Default::default();
            let mut frames = [0.0; 2];
            for (place, calls) in DEPTHS.iter().enumerate() {
                let workloads = Busy::start(session, &depth, *calls)?;
                frames[place] = workloads.frames(session)?;
                for _ in 0..session.scale(5, 2) {
                    costs[place].push(workloads.sample_ns(session, hz, missed)?);
                }
            }
            let budget = if hz == WARM_HZ { Budget::AtMost(BUDGET_NS) } else { Budget::None };
            rows(table, &format!("{name}, {hz} Hz"), budget, frames, &costs);
        }
        let what = format!("run that takes no sample, {hz} Hz");
        let note = "the CPU executes something else";
        table.add(PART, Row::of(what, Unit::Nanoseconds, &[missed]).note(note));
    }
    Ok(())
}

fn rows(table: &mut Table, name: &str, budget: Budget, frames: [f64; 2], costs: &[Vec<f64>; 2]) {
    let pairs = costs[0].iter().zip(&costs[1]);
    let points = pairs.map(|(&low, &high)| ((frames[0], low), (frames[1], high)));
    let at: Vec<f64> = points.clone().filter_map(|(a, b)| on_line(a, b, FRAMES)).collect();
    let note = format!("stacks of {:.0} and {:.0} frames", frames[0], frames[1]);
    if at.is_empty() {
        // Both depths gave the same number of frames: the walk ends early.
        let what = format!("sample of {:.1} frames, {name}", frames[0]);
        let note = format!("the walk ends early: no figure for {FRAMES} frames");
        table.add(PART, Row::of(what, Unit::Nanoseconds, &costs.concat()).note(note));
        return;
    }
    let what = format!("sample of {FRAMES} frames, {name}");
    let row = Row::of(what, Unit::Nanoseconds, &at).budget(budget);
    table.add(PART, row.note(note));
    let each: Vec<f64> = points.filter_map(|(a, b)| slope(a, b)).collect();
    table.add(PART, Row::of(format!("each user frame, {name}"), Unit::Nanoseconds, &each));
}

/// One busy process for each CPU, all at one depth.
struct Busy(Vec<Listener>);

impl Busy {
    fn start(session: &Session, depth: &std::path::Path, calls: u32) -> Result<Self> {
        let mut workloads = Vec::new();
        for _ in 0..session.cpus() {
            let mut command = program(depth, &[&calls.to_string()]);
            let mut workload = Listener::start(&mut command, Stream::Output)?;
            workload.hear("ready", session)?;
            workloads.push(workload);
        }
        Ok(Self(workloads))
    }

    fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Listener::pid).collect()
    }

    /// Frames of their samples, as a profile has them.
    fn frames(&self, session: &Session) -> Result<f64> {
        let mut record = command::of(session.recorder(), &["record", "--quiet", "-d", "1s"]);
        record.args(["-o", "-", "--format", "folded", "-F", "199"]);
        for pid in self.pids() {
            record.arg("--pid").arg(pid.to_string());
        }
        let folded = command::output(&mut record)?;
        let shares = stacks::shares(&stacks::read_folded(&folded), &|_| false);
        ensure!(shares.samples > 0, "no sample of a busy process");
        Ok(shares.frames)
    }

    /// Nanoseconds of a sample of theirs.
    fn sample_ns(&self, session: &Session, hz: u32, missed: f64) -> Result<f64> {
        let used = ran(session, &self.pids(), hz)?;
        ensure!(used.samples > 0.0, "no sample of a busy process");
        Ok(used.per_sample(missed))
    }
}

/// What the sampling program did in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    ns: f64,
    runs: f64,
    samples: f64,
}

impl Used {
    fn read(metrics: &Metrics) -> Self {
        let of_sampler = |name: &'static str| {
            metrics.by_label(name).find(|(probe, _)| *probe == SAMPLER).map_or(0.0, |(_, v)| v)
        };
        Self {
            ns: 1e9 * of_sampler("holmes_probe_run_seconds_total"),
            runs: of_sampler("holmes_probe_runs_total"),
            samples: metrics.sum("holmes_samples_taken_total"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            ns: self.ns - before.ns,
            runs: self.runs - before.runs,
            samples: self.samples - before.samples,
        }
    }

    /// Nanoseconds of a run that took a sample, where each other cost `missed`.
    fn per_sample(self, missed: f64) -> f64 {
        (self.ns - missed * (self.runs - self.samples).max(0.0)) / self.samples
    }
}

/// Has the recorder watch these processes for a while.
fn ran(session: &Session, pids: &[u32], hz: u32) -> Result<Used> {
    let none: [OsString; 0] = [];
    let recorder = Recorder::start(session, Watched::Processes(pids), hz, &none)?;
    // The first samples meet cold caches and maps that are empty still.
    session.pause(Duration::from_secs(1))?;
    let before = Used::read(&recorder.metrics()?);
    // Some hundred samples at the usual frequency, thousands at the high one.
    let length = if hz == WARM_HZ { 2000 } else { session.scale(6000, 3000) };
    session.pause(Duration::from_millis(length))?;
    let used = Used::read(&recorder.metrics()?).since(before);
    ensure!(used.runs > 0.0, "the kernel counted no run of `{SAMPLER}`: is its name still right?");
    Ok(used)
}

/// What a run costs that takes no sample: the CPUs are busy, and the target sleeps.
fn missed_run_ns(session: &Session, hz: u32) -> Result<f64> {
    let depth = session.c_program("depth", &[])?;
    let _busy = Busy::start(session, &depth, DEPTHS[0])?;
    let nappers = session.c_program("nappers", &[])?;
    // One that burns nothing.
    let mut sleeper = Listener::start(&mut program(&nappers, &["1", "0"]), Stream::Output)?;
    let line = sleeper.hear("pid ", session)?;
    let pid = line.trim_start_matches("pid ").parse().context("the workload names no pid")?;
    let used = ran(session, &[pid], hz)?;
    Ok(used.ns / used.runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "holmes_probe_runs_total{probe=\"mmap\"} 7\n\
                        holmes_probe_runs_total{probe=\"samples\"} 100\n\
                        holmes_probe_run_seconds_total{probe=\"mmap\"} 3\n\
                        holmes_probe_run_seconds_total{probe=\"samples\"} 0.00012\n\
                        holmes_samples_taken_total 60\n";

    #[test]
    fn other_probes_do_not_count() {
        let used = Used::read(&Metrics::parse(PAGE));
        assert!((used.ns - 120_000.0).abs() < 1e-6, "{used:?}");
        assert_eq!((used.runs, used.samples), (100.0, 60.0));
    }

    #[test]
    fn runs_without_a_sample_are_taken_off() {
        let used = Used { ns: 120_000.0, runs: 100.0, samples: 60.0 };
        assert_eq!(used.per_sample(150.0), (120_000.0 - 40.0 * 150.0) / 60.0);
        let before = Used { ns: 20_000.0, runs: 10.0, samples: 6.0 };
        assert_eq!(used.since(before), Used { ns: 100_000.0, runs: 90.0, samples: 54.0 });
    }
}
