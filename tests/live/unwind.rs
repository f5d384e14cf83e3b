//! Whole stacks of programs without frame pointers, and each frame the one a second unwinder finds.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use holmes_common::record::flag;
use holmes_tests::agreement::Agreement;
use holmes_tests::command;
use holmes_tests::images;
use holmes_tests::machine;
use holmes_tests::oracle::Oracle;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::program::Program;
use holmes_tests::stack_copies::{self, StackCopy};
use holmes_tests::workload::Workload;

/// Samples in a second: a prime, out of step with what the programs do.
const FREQUENCY: &str = "499";

/// How long most programs are recorded, the time it takes to make the tables included.
pub(crate) const SECONDS: u32 = 4;

/// Fewer samples than this say nothing: a tenth of what one busy CPU gives, because the machine may
/// be an emulated one.
const FEWEST: usize = 200;

/// The share of stacks that must be whole, in percent. What is missing are instructions whose rule
/// no table can hold: a few at the entry of functions that align their stack, and the like.
pub(crate) const WHOLE: f64 = 99.5;

/// What was recorded of a program.
pub(crate) struct Recorded {
    pub(crate) copies: Vec<StackCopy>,
    pub(crate) profile: ProfileView,
    pub(crate) said: String,
}

/// Records a process that runs already.
fn record(pid: u32, seconds: u32) -> anyhow::Result<Recorded> {
    let folder = tempfile::tempdir()?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is not UTF-8");
    let (file, copies) = (folder.path().join("x.pb.gz"), folder.path().join("copies"));
    let arguments = ["record", "-p", &pid.to_string(), "-F", FREQUENCY, "-o"];
    let files = [&text(&file)?, "-d", &format!("{seconds}s"), "--stack-copies", &text(&copies)?];
    let finished = command::run([&arguments[..], &files[..]].concat())?.expect_code(0)?;
    Ok(Recorded {
        copies: stack_copies::read(&copies)?,
        profile: ProfileView::read(&file)?,
        said: finished.stderr,
    })
}

/// The stacks behind the last one that waited for a table: they are made on demand, the large ones in
/// seconds. Tables that never come leave too few.
fn since_the_tables(recorded: &Recorded) -> anyhow::Result<&[StackCopy]> {
    // Without its table a function is walked by frame pointers, which may skip callers.
    let waits = |copy: &StackCopy| {
        copy.flags & flag::TABLE_WANTED != 0
            || matches!(copy.end.as_str(), "no_table" | "unknown_process")
    };
    let last = recorded.copies.iter().rposition(waits);
    let since = recorded.copies.get(last.map_or(0, |last| last + 1)..).unwrap_or_default();
    ensure!(
        since.len() >= FEWEST,
        "{} stacks of {} since the last that waited for a table; {}",
        since.len(),
        recorded.copies.len(),
        recorded.said
    );
    Ok(since)
}

/// Records a process and asks the oracle of each of its stacks.
pub(crate) fn compared(pid: u32, seconds: u32) -> anyhow::Result<(Recorded, Agreement)> {
    let mut oracle = Oracle::new(images::of(pid)?);
    let recorded = record(pid, seconds)?;
    let agreement = Agreement::of(since_the_tables(&recorded)?, &mut oracle);
    // Shown with a test that fails, and with --nocapture.
    eprintln!("{agreement}");
    Ok((recorded, agreement))
}

/// What must hold of every program whose code has unwind information throughout.
pub(crate) fn expect_whole(agreement: &Agreement) -> anyhow::Result<()> {
    ensure!(agreement.contradictions == 0, "{agreement}");
    ensure!(agreement.percent_whole() >= WHOLE, "{agreement}");
    Ok(())
}

/// Spins in the hard workload, and compares.
fn hard_ways(workload: &Workload) -> anyhow::Result<(Recorded, Agreement)> {
    let mut program = Program::start(workload, None)?;
    program.ask("spin", "spinning")?;
    compared(program.pid(), SECONDS)
}

#[test]
fn every_hard_way_in_c() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let (recorded, agreement) = hard_ways(&Workload::bare_c("unwind")?)?;
    expect_whole(&agreement)?;
    let profile = &recorded.profile;
    // Each way was seen, under the function that begins it: the walk came through.
    for way in [
        &["go_deep", "churn"][..],
        &["sort_numbers", "qsort", "compare"],
        &["signal_itself", "on_signal"],
        &["call_library"],
        &["read_clock"],
        &["enter_kernel"],
        &["variable_frame"],
        &["aligned_frame"],
        &["big_frame"],
        &["jump_back", "ends_in_a_call", "never_returns"],
        &["off_by_a_word", "go_deep", "churn"],
    ] {
        let names = [&["every_way"][..], way].concat();
        let seen = profile.chain("samples", &names)?;
        ensure!(seen > 0, "{names:?} was not seen:\n{}", profile.top("samples"));
    }
    // The second thread's stacks end where a thread begins.
    let thread = profile.chain("samples", &["second_thread", "every_way"])?;
    ensure!(thread > 0, "nothing of the second thread:\n{}", profile.top("samples"));
    let longest = recorded.copies.iter().map(|copy| copy.frames.len()).max().unwrap_or(0);
    ensure!(longest > 180, "the deepest stack has {longest} frames");
    Ok(())
}

#[test]
fn a_stack_of_more_frames_than_are_kept_says_so() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut program = Program::start(&Workload::bare_c("unwind")?, None)?;
    program.ask("deep", "going deep")?;
    let (_recorded, agreement) = compared(program.pid(), SECONDS)?;
    ensure!(agreement.contradictions == 0, "{agreement}");
    let limited = agreement.ends.get("frame_limit").copied().unwrap_or(0);
    // On its way down and up again it is briefly not so deep.
    ensure!(2 * limited > agreement.samples, "{agreement}");
    Ok(())
}

#[test]
fn a_static_program() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let options = ["-fomit-frame-pointer", "-fno-builtin", "-static"];
    let (_recorded, agreement) =
        hard_ways(&Workload::compiled("unwind", "static", "cc", &options)?)?;
    expect_whole(&agreement)
}

/// musl's own functions have no unwind information, and keep no frame pointers: their rules are read
/// from their code. The second unwinder has none of them, so that what it says is not enough.
fn static_musl(kind: &str, more: &[&str]) -> anyhow::Result<Recorded> {
    let options = ["-fomit-frame-pointer", "-fno-builtin", "-static"];
    let workload = Workload::compiled("unwind", kind, "musl-gcc", &[&options[..], more].concat())?;
    let (recorded, agreement) = hard_ways(&workload)?;
    expect_whole(&agreement)?;
    // They end where the program begins, or its thread, and nowhere else.
    let whole = since_the_tables(&recorded)?.iter().filter(|copy| copy.end == "outermost");
    let ends: BTreeSet<_> = whole.filter_map(|copy| copy.frames.last()).collect();
    ensure!(ends.len() == 2, "stacks end at {ends:x?}; {agreement}");
    Ok(recorded)
}

#[test]
fn a_static_program_of_musl() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    if machine::installed("musl-gcc").is_none() {
        return Ok(());
    }
    let recorded = static_musl("musl", &[])?;
    // Of stacks that waited for their table some callers are missing: on an emulated CPU a few.
    let early = i64::try_from(recorded.copies.len() - since_the_tables(&recorded)?.len())?;
    let profile = recorded.profile;
    // What musl calls is found below who called musl.
    for way in [
        &["sort_numbers", "qsort", "compare"][..],
        &["signal_itself", "on_signal"],
        &["jump_back", "ends_in_a_call"],
    ] {
        let leaf = way.last().copied().unwrap_or_default();
        let all = profile.cumulative("samples", leaf)?;
        let whole = profile.chain("samples", &[&["every_way"][..], way].concat())?;
        ensure!(whole > 0, "{way:?} was not seen:\n{}", profile.top("samples"));
        // Signals interrupt the program anywhere.
        ensure!(
            whole + early >= all || leaf == "on_signal",
            "{way:?}: {whole} of {all}, {early} were early"
        );
    }
    let main = profile.chain("samples", &["_start", "main", "every_way"])?;
    let thread = profile.chain("samples", &["__clone", "second_thread", "every_way"])?;
    let total = profile.total("samples")?;
    let (both, allowed) = ((main + thread + early) as f64, total as f64 * WHOLE / 100.0);
    ensure!(main > 0 && thread > 0 && both >= allowed, "{main} + {thread} of {total}");
    Ok(())
}

/// Without symbols there is only the code to tell where functions begin.
#[test]
fn a_static_program_of_musl_without_symbols() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    if machine::installed("musl-gcc").is_none() {
        return Ok(());
    }
    static_musl("musl-stripped", &["-s"]).map(|_| ())
}
