//! Profilers that sample one process: ours, and those that people would use instead.
//!
//! Must not: install one, or judge.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::foreign_stacks::{read_bpftrace, read_perf_script};
use super::listener::{Listener, Stream};
use super::process::CpuClock;
use super::session::Session;
use super::stacks::{Stack, read_folded};
use crate::command;

/// A profiler that says nothing is given this time to begin.
const BEGIN: Duration = Duration::from_millis(1500);

/// One that says when it begins is given this time to say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Seconds after which one ends by itself, should everything else fail.
const LIMIT_SECONDS: &str = "3600";

/// A profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `holmes-ebpf record`.
    Holmes,
    /// `perf record -g`: frame pointers.
    PerfFramePointers,
    /// `perf record --call-graph dwarf`: copies of stacks, walked afterwards.
    PerfDwarf,
    /// `profile` of bcc.
    BccProfile,
    /// A one-line program of bpftrace.
    Bpftrace,
}

impl Tool {
    /// Each.
    pub const ALL: [Self; 5] =
        [Self::Holmes, Self::PerfFramePointers, Self::PerfDwarf, Self::BccProfile, Self::Bpftrace];

    /// As rows of the table call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holmes => "holmes-ebpf record",
            Self::PerfFramePointers => "perf record -g",
            Self::PerfDwarf => "perf record --call-graph dwarf",
            Self::BccProfile => "bcc profile",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Its program, if it is installed.
    fn program(self, session: &Session) -> Option<PathBuf> {
        match self {
            Self::Holmes => Some(session.recorder().to_owned()),
            Self::PerfFramePointers | Self::PerfDwarf => command::find("perf"),
            // Debian's name, and upstream's place.
            Self::BccProfile => command::find("profile-bpfcc")
                .or_else(|| Some(PathBuf::from("/usr/share/bcc/tools/profile")))
                .filter(|program| program.is_file()),
            Self::Bpftrace => command::find("bpftrace"),
        }
    }

    /// Whether it is installed.
    pub fn is_here(self, session: &Session) -> bool {
        self.program(session).is_some()
    }

    /// Begins to sample a process at this frequency, and returns when it does.
    ///
    /// # Errors
    /// When it cannot be started, or ends at once.
    pub fn observe(self, session: &Session, pid: u32, hz: u32) -> Result<Observation> {
        let program = self.program(session).context("not installed")?;
        let (pid, hz) = (pid.to_string(), hz.to_string());
        let output = session.file(&format!("{self:?}.out"));
        let mut command = Command::new(program);
        match self {
            Self::Holmes => {
                command.args(["record", "--format", "folded", "-d"]);
                command.arg(format!("{LIMIT_SECONDS}s")).args(["-F", &hz, "-p", &pid, "-o"]);
                command.arg(&output);
            }
            Self::PerfFramePointers | Self::PerfDwarf => {
                let graph = if self == Self::PerfDwarf { "dwarf" } else { "fp" };
                // The CPU clock: a virtual machine often has no counter of cycles.
                command.args(["record", "-q", "-e", "cpu-clock", "-F", &hz, "--call-graph", graph]);
                command.args(["-p", &pid, "-o"]).arg(&output);
            }
            Self::BccProfile => {
                command.args(["-f", "-a", "-F", &hz, "-p", &pid, LIMIT_SECONDS]);
            }
            Self::Bpftrace => {
                // It prints what it has counted when it ends.
                let source =
                    format!("profile:hz:{hz} /pid == {pid}/ {{ @[ustack(127)] = count(); }}");
                command.args(["-B", "none", "-e"]).arg(source);
            }
        }
        let printed = session.file(&format!("{self:?}.printed"));
        let prints = matches!(self, Self::BccProfile | Self::Bpftrace);
        let mut child = if prints {
            let file = File::create(&printed)
                .with_context(|| format!("cannot create {}", printed.display()))?;
            Listener::start_into(&mut command, file)?
        } else {
            Listener::start(&mut command, Stream::Error)?
        };
        match self {
            Self::Holmes => drop(child.hear("recording", session)?),
            // It compiles first, for seconds on a busy machine.
            Self::Bpftrace => {
                wait_for(&printed, "Attaching", session)?;
                session.pause(BEGIN)?;
            }
            _ => session.pause(BEGIN)?,
        }
        child.still_runs()?;
        let clock = CpuClock::start(child.pid())?;
        Ok(Observation { tool: self, child, clock, output: if prints { printed } else { output } })
    }
}

/// Waits until a file holds this text, or so long that the profiler will not print it.
fn wait_for(file: &Path, text: &str, session: &Session) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // It was made before the profiler was started.
        if std::fs::read_to_string(file).is_ok_and(|printed| printed.contains(text)) {
            break;
        }
        session.pause(Duration::from_millis(100))?;
    }
    Ok(())
}

/// A profiler at work, ended on drop.
#[derive(Debug)]
pub struct Observation {
    tool: Tool,
    child: Listener,
    clock: CpuClock,
    output: PathBuf,
}

impl Observation {
    /// Percent of one CPU that it has used since it began. Work that it leaves for afterwards is
    /// not in it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_percent(&self) -> Result<f64> {
        self.clock.percent()
    }

    /// Ends it, and gives the stacks it has sampled.
    ///
    /// # Errors
    /// When it fails, or what it wrote cannot be read.
    pub fn stacks(mut self, session: &Session) -> Result<Vec<Stack>> {
        // They all take Ctrl-C for "that is enough".
        self.child.end_by("INT");
        session.check()?;
        let read = || {
            std::fs::read_to_string(&self.output)
                .with_context(|| format!("cannot read {}", self.output.display()))
        };
        Ok(match self.tool {
            Tool::Holmes | Tool::BccProfile => read_folded(&read()?),
            Tool::Bpftrace => read_bpftrace(&read()?),
            Tool::PerfFramePointers | Tool::PerfDwarf => {
                // No inlined functions: looking them up takes minutes.
                let arguments = ["script", "--no-inline", "-F", "comm,ip,sym,dso", "-i"];
                let mut script = command::of("perf", &arguments);
                read_perf_script(&command::output(script.arg(&self.output))?)
            }
        })
    }
}
