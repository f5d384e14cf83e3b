//! `cargo xtask bench`: the recorder's budgets, each measured in one run on this machine, as one
//! table.
//!
//! - [`sample_cost`], [`footprint`], [`slowdown`], [`latency`], [`stack_shares`], [`peers`],
//!   [`growth`], [`allocations`], [`goroutines`] and [`hooks`]: the parts of the table;
//! - [`figure`] and [`table`]: numbers of several runs, beside their budgets;
//! - [`session`], [`listener`], [`recorder`], [`tool`], [`language`] and [`crowd`]: what is started,
//!   and ended whatever happens; [`load`]: what a server is asked;
//! - [`kernel_side`], [`process`], [`scrape`], [`stacks`], [`foreign_stacks`] and [`entry`]: where
//!   the numbers come from.
//!
//! Must not: leave a process, a cgroup or a setting behind, also not after a failure or Ctrl-C;
//! watch what it did not start, but for totals of the whole host.

mod allocations;
mod crowd;
mod entry;
mod figure;
mod footprint;
mod foreign_stacks;
mod goroutines;
mod growth;
mod hooks;
mod kernel_side;
mod language;
mod latency;
mod listener;
mod load;
mod peers;
mod process;
mod recorder;
mod sample_cost;
mod scrape;
mod session;
mod slowdown;
mod stack_shares;
mod stacks;
mod table;
mod tool;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use serde_json::json;

use crate::{command, workspace};
use session::Session;
use table::{Row, Table, Unit};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fewer runs and shorter ones: minutes instead of half an hour, and wider spreads.
    #[arg(long)]
    quick: bool,
    /// Only this part (repeatable).
    #[arg(long, value_name = "NAME",
        value_parser = PossibleValuesParser::new(PARTS.map(|(name, _)| name)))]
    only: Vec<String>,
    /// Also write the table as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

type Measure = fn(&Session, &mut Table) -> Result<()>;

/// The parts, in the order they are run.
const PARTS: [(&str, Measure); 10] = [
    ("sample-cost", sample_cost::run),
    ("footprint", footprint::run),
    ("slowdown", slowdown::run),
    ("latency", latency::run),
    ("stacks", stack_shares::run),
    ("peers", peers::run),
    ("growth", growth::run),
    ("allocations", allocations::run),
    ("goroutines", goroutines::run),
    ("hooks", hooks::run),
];

/// Measures and shows.
///
/// # Errors
/// When there is no root, something cannot be built, a part fails, or the run was interrupted.
/// A budget that is not held is a result, not an error.
pub fn run(args: &Args) -> Result<()> {
    let binary = binary()?;
    if !command::is_root() {
        // The same arguments; what was built is not built again.
        let target = workspace::target().into_os_string();
        let more = [(BINARY, binary.into_os_string()), ("CARGO_TARGET_DIR", target)];
        return command::become_root(std::env::args_os().skip(1), &more);
    }
    let session = Session::begin(args.quick, binary, workspace::target().join("bench"))?;
    let machine = machine(&session);
    println!("{machine}");
    if let Err(error) = kernel_side::own_tracefs() {
        eprintln!("warning: {error:#}: the tools beside it may need tracefs");
    }
    let mut table = Table::default();
    let mut failed = Vec::new();
    for (name, measure) in PARTS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        println!("{name}");
        if let Err(error) = measure(&session, &mut table) {
            if session.is_interrupted() {
                bail!("interrupted; what was measured is above");
            }
            eprintln!("error: {name}: {error:#}");
            table.add(name, Row::absent(name, Unit::Count, format!("{error:#}")));
            failed.push(name);
        }
    }
    println!("\n{}", table.text());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&table.json(machine))?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    match table.broken() {
        0 => println!("every budget that was measured holds"),
        broken => println!("{broken} budgets do not hold"),
    }
    Ok(())
}

/// Names the recorder that is measured, where it is not the release build.
const BINARY: &str = "HOLMES_BIN";

/// The recorder that is measured.
fn binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os(BINARY) {
        let binary = PathBuf::from(binary);
        return binary.canonicalize().with_context(|| format!("{BINARY}={}", binary.display()));
    }
    command::run(&mut command::of_cargo(&["build", "--release", "--package", "holmes-user"]))?;
    Ok(workspace::recorder())
}

/// What the figures are of. A load at the start is work of others, and makes them wide.
fn machine(session: &Session) -> serde_json::Value {
    let first = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().next().unwrap_or("-").to_owned()
    };
    json!({
        "kernel": first("/proc/sys/kernel/osrelease"), "cpus": session.cpus(),
        "load_at_the_start": first("/proc/loadavg"), "quick": session.scale(false, true),
    })
}
