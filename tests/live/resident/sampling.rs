//! A sample stands for memory on average, whatever the pattern in which a program touches it.

use anyhow::ensure;
use holmes_tests::machine;
use holmes_tests::recorder::Setup;

use super::{MIB, Watched, expect};

/// One function touches one page and another some, in turn: each has its share.
#[test]
fn a_pattern_does_not_keep_step_with_the_sampler() -> anyhow::Result<()> {
    let Some(_machine) = machine::live()? else { return Ok(()) };
    for pages in [1, 4, 9, 16, 127] {
        let setup = Setup::no_rules().args(["--memory-interval", "64KiB"]);
        let mut watched = Watched::start_c(setup)?;
        // Four times 256 MiB: 16,384 samples.
        for _ in 0..4 {
            watched.does(&format!("turns {pages}"))?;
        }
        let profile = watched.profile()?;
        expect("all", profile.cumulative("alloc_space", "in_turn")?, 1024, 2)?;
        let one = profile.cumulative("alloc_space", "one_page_in_c")? as f64 / (1024 * MIB) as f64;
        let share = 1.0 / (pages + 1) as f64;
        // Five standard deviations of a share that 16,384 samples say.
        let error = 5.0 * (share * (1.0 - share) / 16384.0).sqrt();
        println!("{pages}: {one:.4} of {share:.4}, at most {error:.4} off");
        ensure!((one - share).abs() < error, "{pages} pages: {one} instead of {share}");
    }
    Ok(())
}

/// Calls beyond what is recorded one by one are sampled: the cgroup's counters are exact all the same, and
/// the profile is near them.
#[test]
fn a_hundred_thousand_small_mappings() -> anyhow::Result<()> {
    const CALLS: u64 = 100_000;
    let Some(_machine) = machine::live()? else { return Ok(()) };
    let mut watched = Watched::c()?;
    let cgroup = watched.cgroup.name();
    let counted = |watched: &Watched, metric: &str| -> anyhow::Result<f64> {
        Ok(watched.recorder.metrics()?.sum(metric, &[("cgroup", &cgroup)]).unwrap_or(0.0))
    };
    let (calls, bytes) = ("holmes_cgroup_mmap_calls_total", "holmes_cgroup_mmap_bytes_total");
    let before = (counted(&watched, calls)?, counted(&watched, bytes)?);
    watched.does(&format!("map-many {CALLS}"))?;
    let asked: u64 = (0..CALLS).map(|at| (at % 7 + 1) * 4096).sum();
    std::thread::sleep(super::KNOWN);
    let now = (counted(&watched, calls)? - before.0, counted(&watched, bytes)? - before.1);
    ensure!(now == (CALLS as f64, asked as f64), "{now:?} of {CALLS} calls, {asked} bytes");
    let profile = watched.incident()?.profile("mmap")?;
    for (kind, wanted) in [("calls", CALLS as f64), ("mapped", asked as f64)] {
        let found = profile.cumulative(kind, "many_small_mappings")? as f64;
        println!("{kind}: {found} of {wanted}");
        // One call of 64 is recorded: 1,500 of them, whose number is 2.6 % off on average.
        ensure!((found / wanted - 1.0).abs() < 0.13, "{kind}: {found} of {wanted}");
    }
    Ok(())
}
