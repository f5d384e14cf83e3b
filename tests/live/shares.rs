//! The shares of a profile are those of the program.

use anyhow::{Context, ensure};
use holmes_tests::command;
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::recorder::Account;
use holmes_tests::workload::Workload;

/// Points by which a share may be off.
const TOLERANCE: f64 = 3.0;

/// Eight seconds at this frequency are about 4,000 samples: the error of a 70 % share is then
/// 0.7 points, so that 3 points are far outside of chance.
const FREQUENCY: &str = "499";

#[test]
fn seventy_twenty_ten() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::c("shares")?, None)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shares.pb.gz");
    let output = file.to_str().context("a path that is not UTF-8")?;
    let pid = program.pid().to_string();
    let finished = command::run(["record", "-p", &pid, "-F", FREQUENCY, "-d", "8s", "-o", output])?
        .expect_code(0)?;
    let truth = program.ask("report", "shares ")?;
    let profile = ProfileView::read(&file)?;
    for part in truth.split(' ').skip(1) {
        let (function, percent) = part.split_once('=').context("name=percent")?;
        let (wanted, got) = (percent.parse::<f64>()?, profile.percent("samples", function)?);
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
