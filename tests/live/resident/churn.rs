//! A leak of 1 MiB/s beside 100 MiB/s that are taken and given back.

use anyhow::{Context, ensure};
use holmes_tests::machine;
use holmes_tests::profile_view::ProfileView;
use holmes_tests::recorder::Setup;

use super::{Watched, expect};

/// How long it leaks.
const SECONDS: i64 = 15;

/// The leak is what is in use, and next to nothing of the churn is, of which there is a hundred times
/// as much.
fn expect_leak_first(profile: &ProfileView) -> anyhow::Result<()> {
    let leak = profile.cumulative("inuse_space", "leak_in_c")?;
    let churn = profile.cumulative("inuse_space", "churn_in_c")?;
    // Fifteen MiB are 120 samples among a hundred times as many: a tenth is one standard deviation.
    expect("leaked and in use", leak, SECONDS, 50)?;
    ensure!(churn * 2 < leak, "{leak} leaked, {churn} churned:\n{}", profile.top("inuse_space"));
    expect("churned", profile.cumulative("alloc_space", "churn_in_c")?, SECONDS * 100, 5)
}

#[test]
fn the_leak_is_named_first() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for how in ["leak", "leak-advise"] {
        let mut watched = Watched::c()?;
        watched.does(&format!("{how} {SECONDS}"))?;
        expect_leak_first(&watched.profile()?)?;
        watched.recorder.stop()?.account.expect_balanced()?;
    }
    Ok(())
}

/// A rule fires while memory is touched: the incident has the profile, the time before the onset, and
/// the process that grew.
#[test]
fn a_rise_of_memory_names_the_process_that_grew() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    // 8 MiB are less than that, also where the host has no more than 4 GiB.
    let rule = "memory=min:100,diff:0,abs:0.4,max:0,cooldown:1m";
    let setup = Setup::only_rule(rule).args(["--memory-interval", "64KiB"]);
    let mut watched = Watched::start_c(setup)?;
    watched.does("read 8")?;
    watched.recorder.wait_for_warm_up();
    watched.does(&format!("touch {}", machine::memory_mib()? / 80))?;
    let incident = watched.recorder.wait_incident(1)?;
    let stems = incident.validate()?;
    ensure!(stems.contains("memory") && stems.contains("memory.base"), "profiles: {stems:?}");
    let (whole, base) = (incident.profile("memory")?, incident.profile("memory.base")?);
    for kind in ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"] {
        let (all, before) = (whole.total(kind)?, base.total(kind)?);
        ensure!(0 < before && before < all, "{kind}: {before} of {all} are before the onset");
    }
    // It has read one by which it was seen.
    expect("read before", base.cumulative("inuse_space", "read_in_c")?, 8 + 1, 5)?;
    // The onset is the last reading that was quiet: it may have seen the beginning of the rise.
    let risen = |profile: &ProfileView| profile.cumulative("alloc_space", "touch_in_c");
    let (all, before) = (risen(&whole)?, risen(&base)?);
    ensure!(2 * before < all, "{before} of the rise of {all} are before it");
    let document = incident.document();
    let grown = document.pointer("/memory/grown/0/pid").context("nobody grew")?;
    ensure!(grown == watched.program.pid(), "{grown} grew, in {document:#}");
    Ok(())
}
