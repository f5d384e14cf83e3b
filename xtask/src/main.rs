//! The project's own tasks, run as `cargo xtask <task>`.
//!
//! # Layout
//! - [`ebpf`]: builds the kernel probes from source, or checks the committed ones;
//! - [`run`]: builds the recorder and runs it on the whole host;
//! - [`mod@test`]: everything this machine can test, and what it could not;
//! - [`tidy`]: the rules about the sources that no compiler knows;
//! - [`demo`]: a service that spikes, and the incident it leaves;
//! - [`vm`]: the live tests on other kernels, in virtual machines;
//! - [`mod@bench`]: the budgets of the recorder, measured beside each other;
//! - [`fuzz`]: the parsers of hostile input, with inputs made up by libFuzzer;
//! - [`install`]: finds or installs the tools that the tasks need;
//! - [`command`], [`child`] and [`cgroup`]: child processes, ended and removed whatever happens;
//! - [`workspace`]: the folders of the clone.
//!
//! Must not: be needed to build the recorder. `cargo build` works without it.

mod bench;
mod cgroup;
mod child;
mod command;
mod demo;
mod ebpf;
mod fuzz;
mod install;
mod run;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// One task.
#[derive(Debug, Subcommand)]
enum Task {
    /// Build the kernel probes from source into `holmes-ebpf/prebuilt/`.
    Ebpf(ebpf::Args),
    /// Build the recorder and run it on the whole host, as root.
    Run(run::Args),
    /// Install what the tests need, run all that this machine can run, say what it could not.
    Test(test::Args),
    /// Check the rules about the sources that no compiler knows.
    Tidy,
    /// Run the live tests on other kernels, in virtual machines.
    Vm(vm::Args),
    /// Build the fuzz targets and run them from their seeds.
    Fuzz(fuzz::Args),
    /// Start a service that spikes, and show the incident.
    Demo(demo::Args),
    /// Measure the recorder's budgets and show them as one table.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done: Result<()> = match Cli::parse().task {
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Run(args) => run::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Tidy => tidy::run(),
        Task::Vm(args) => vm::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
