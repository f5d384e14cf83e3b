//! The memory profile: what is allocated and what is in use, under the name of who touched it first.

mod awry;
mod churn;
mod forks;
mod halves;
mod sampling;

use std::time::Duration;

use anyhow::ensure;
use holmes_tests::cgroup::TestCgroup;
use holmes_tests::incident::IncidentFolder;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::{Recorder, Setup};
use holmes_tests::workload::Workload;

const MIB: i64 = 1 << 20;

/// What the programs touch, in MiB.
const TOUCHED: i64 = 1024;

/// How long the recorder may take to make the tables of a program.
const KNOWN: Duration = Duration::from_secs(1);

/// A GiB is 8,192 samples: where other programs fault on the same CPUs, chance decides whose fault is the
/// sample, and of the usual 2,048 that could be 2 % off.
fn fine() -> Setup {
    Setup::no_rules().args(["--memory-interval", "128KiB"])
}

/// A program that the recorder has watched since before it began.
struct Watched {
    // Dropped in this order: a cgroup goes last.
    program: Program,
    recorder: Recorder,
    cgroup: TestCgroup,
    incidents: usize,
}

impl Watched {
    fn start(workload: &Workload) -> anyhow::Result<Self> {
        Self::start_with(workload, fine())
    }

    /// With a recorder that is set up in another way.
    fn start_with(workload: &Workload, setup: Setup) -> anyhow::Result<Self> {
        let cgroup = TestCgroup::new()?;
        let setup = setup.replace("--lookback", "60s").cgroup(&cgroup);
        let recorder = setup.start()?;
        let program = Program::start(workload, Some(&cgroup))?;
        // Its stacks are walked with tables that are made when it has been seen.
        std::thread::sleep(KNOWN);
        Ok(Self { program, recorder, cgroup, incidents: 0 })
    }

    fn c() -> anyhow::Result<Self> {
        Self::start_c(fine())
    }

    fn start_c(setup: Setup) -> anyhow::Result<Self> {
        let mut watched = Self::start_with(&Workload::c("resident")?, setup)?;
        watched.is_seen()?;
        Ok(watched)
    }

    /// Has it do something, so that it is known to the recorder, and then so that libc is.
    fn is_seen(&mut self) -> anyhow::Result<()> {
        for command in ["innocent 40", "read 1"] {
            self.does(command)?;
            std::thread::sleep(KNOWN);
        }
        Ok(())
    }

    /// Has the program do something, and waits until it has.
    fn does(&mut self, command: &str) -> anyhow::Result<()> {
        self.program.ask(command, "done").map(|_| ())
    }

    /// An incident of now.
    fn incident(&mut self) -> anyhow::Result<IncidentFolder> {
        self.recorder.trigger()?;
        self.incidents += 1;
        let incident = self.recorder.wait_incident(self.incidents)?;
        incident.validate()?;
        Ok(incident)
    }

    fn profile(&mut self) -> anyhow::Result<ProfileView> {
        self.incident()?.profile("memory")
    }
}

/// `found` bytes are `mib` MiB within `percent`.
fn expect(what: &str, found: i64, mib: i64, percent: i64) -> anyhow::Result<()> {
    let off = (found - mib * MIB).abs();
    println!("{what}: {} KiB of {mib} MiB", found / 1024);
    ensure!(off * 100 <= mib * MIB * percent, "{what}: {} KiB instead of {mib} MiB", found / 1024);
    Ok(())
}

/// Under a function's name, with all that it calls, so much was touched and so much is in use.
fn expect_both(profile: &ProfileView, name: &str, [alloc, inuse]: [i64; 2]) -> anyhow::Result<()> {
    for (kind, mib) in [("alloc_space", alloc), ("inuse_space", inuse)] {
        let found = profile.cumulative(kind, name)?;
        expect(&format!("{kind} of {name}"), found, mib, 2)
            .map_err(|error| error.context(profile.top(kind)))?;
    }
    Ok(())
}

/// What the profile attributes in all is what the kernel says is resident.
///
/// A program has a few MiB besides what it is told to touch, much of it files' pages, of which the
/// kernel maps sixteen for one fault.
fn expect_resident(incident: &IncidentFolder) -> anyhow::Result<()> {
    let resident = incident.number("/memory/resident_bytes")?;
    let attributed = incident.number("/memory/attributed_bytes")?;
    println!("resident {resident}, attributed {attributed}");
    let other = 32.0 * MIB as f64;
    ensure!(
        (resident - attributed).abs() < resident * 0.02 + other,
        "{attributed} of {resident} bytes are attributed"
    );
    Ok(())
}
