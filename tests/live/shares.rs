//! The shares of a profile are those of the program.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use holmes_tests::command::{self, recorder_binary};
use holmes_tests::confine::Confinement;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Account;
use holmes_tests::transcript::HANG_GUARD;
use holmes_tests::workload::Workload;

/// Points by which a share may be off.
const TOLERANCE: f64 = 3.0;

/// Eight seconds at this frequency are about 4,000 samples: the error of a 70 % share is then
/// 0.7 points, so that 3 points are far outside of chance.
const FREQUENCY: &str = "499";

/// With fewer stacks than this from perf, 3 points are chance: a quarter of a CPU's.
const FEWEST_OF_PERF: usize = 1000;

/// Names and percents of a line `shares NAME=PERCENT ...`.
fn shares(line: &str) -> anyhow::Result<Vec<(&str, f64)>> {
    let parts = line.split(' ').skip(1).map(|part| {
        let (name, percent) = part.split_once('=').context("name=percent")?;
        Ok((name, percent.parse()?))
    });
    parts.collect()
}

#[test]
fn seventy_twenty_ten() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    shares_are_right(&Confinement::default())
}

/// By a recorder in such a world.
pub(crate) fn shares_are_right(world: &Confinement) -> anyhow::Result<()> {
    let mut program = Program::start(&Workload::bare_c("shares")?, None)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shares.pb.gz");
    let output = file.to_str().context("a path that is not UTF-8")?;
    let pid = program.pid().to_string();
    let arguments = ["record", "-p", &pid, "-F", FREQUENCY, "-d", "8s", "-o", output];
    let finished = command::run_confined(&recorder_binary()?, arguments, world)?.expect_code(0)?;
    let truth = program.ask("report", "shares ")?;
    let profile = ProfileView::read(&file)?;
    for (function, wanted) in shares(&truth)? {
        // Under main(): a stack that is not whole does not count.
        let got = profile.chain_percent("samples", &["main", function])?;
        ensure!(
            (wanted - got).abs() <= TOLERANCE,
            "{function}: {got:.1} %, {wanted:.1} % in truth; {}\n{}",
            finished.stderr,
            profile.top("samples")
        );
    }
    let lines: Vec<String> = finished.stderr.lines().map(str::to_owned).collect();
    let account = Account::find(&lines)?.expect_balanced()?;
    // What was reported is what is in the file.
    let in_file = u64::try_from(profile.total("samples")?)?;
    ensure!(in_file == account.reported, "{in_file} samples in the file; {account:?}");
    Ok(())
}

/// perf's own unwinder, on copies of the stack, sees the same.
#[test]
fn the_same_shares_as_perf() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let Some(perf) = machine::installed("perf") else { return Ok(()) };
    let program = Program::start(&Workload::bare_c("shares")?, None)?;
    let folder = tempfile::tempdir()?;
    let (ours, theirs) = (folder.path().join("x.pb.gz"), folder.path().join("perf.data"));
    let pid = program.pid().to_string();
    let mut record = Command::new(&perf);
    record.args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", "dwarf"]);
    record.args(["-p", &pid, "-o"]).arg(&theirs).args(["--", "sleep", "8"]);
    let record = Program::spawn(record)?;
    let output = ours.to_str().context("a path that is not UTF-8")?;
    command::run(["record", "-p", &pid, "-F", FREQUENCY, "-d", "8s", "-o", output])?
        .expect_code(0)?;
    record.finish(HANG_GUARD)?.expect_code(0)?;
    let mut script = Command::new(&perf);
    script.args(["script", "-F", "ip,sym", "-i"]).arg(&theirs).stdin(Stdio::null());
    let script = Program::spawn(script)?.finish(HANG_GUARD)?.expect_code(0)?.text();
    // A paragraph for each sample, a function on each line.
    let stacks: Vec<&str> = script.split("\n\n").filter(|it| it.contains("main")).collect();
    ensure!(stacks.len() >= FEWEST_OF_PERF, "perf has {} stacks", stacks.len());
    let profile = ProfileView::read(&ours)?;
    for function in ["spend_seventy", "spend_twenty", "spend_ten"] {
        let seen = stacks.iter().filter(|stack| stack.contains(function)).count();
        #[allow(clippy::cast_precision_loss)] // counts of a few seconds
        let wanted = 100.0 * seen as f64 / stacks.len() as f64;
        let got = profile.chain_percent("samples", &["main", function])?;
        ensure!(
            (wanted - got).abs() <= TOLERANCE,
            "{function}: {got:.1} %, {wanted:.1} % by perf\n{}",
            profile.top("samples")
        );
    }
    Ok(())
}
