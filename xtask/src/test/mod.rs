//! `cargo xtask test`: installs what the tests need, runs all that this machine can run, and says
//! what it could not run and why.
//!
//! - [`plan`]: the steps, in order, and what each needs;
//! - [`step`]: runs one, streams its output, counts its tests;
//! - [`count`]: reads the counts from libtest's output;
//! - [`report`]: the table at the end.
//!
//! Must not: stop at a failed step. The exit code and the last line tell.

pub mod count;
mod plan;
mod report;
mod step;

use std::time::Instant;

use anyhow::{Result, bail};

use report::Report;

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what needs neither root nor an installed tool: format, lints, tidy, unit tests.
    #[arg(long)]
    quick: bool,
}

/// Runs every step, then reports.
///
/// # Errors
/// When a step failed.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let interrupted = step::interrupt_flag()?;
    let mut report = Report::default();
    let preparation = if args.quick {
        plan::Preparation::none()
    } else {
        plan::Preparation::install(&mut report)
    };
    for step in plan::steps(args.quick, &preparation) {
        println!("\n==> {}", step.name);
        let (name, began) = (step.name, Instant::now());
        let outcome = step.run(&interrupted);
        report.add(name, outcome, began.elapsed());
        if interrupted.load(std::sync::atomic::Ordering::Relaxed) {
            report.could_not_run("the remaining steps", "interrupted");
            break;
        }
    }
    for (what, why) in plan::NOT_YET {
        report.could_not_run(what, why);
    }
    print!("{}", report.text(started.elapsed()));
    if !report.passed() {
        bail!("some steps failed, see the table above");
    }
    Ok(())
}
