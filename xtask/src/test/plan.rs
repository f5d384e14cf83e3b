//! The steps, in order, and what each needs.
//!
//! Must not: run a step.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::report::Report;
use super::step::{Action, Step};
use crate::ebpf::{self, toolchain};
use crate::{command, install, tidy, vm, workspace};

/// What is left to a person, and why.
pub const NOT_YET: [(&str, &str); 2] = [
    ("all live tests on all four kernels", "take most of an hour; run `cargo xtask vm`"),
    ("advisories", "need a download of the advisory database; run `cargo deny check advisories`"),
];

/// Guards against hanging, not expectations. Together with the installation they keep the whole
/// command under an hour on two cores.
const LIMIT_BUILD: Duration = Duration::from_secs(20 * 60);
const LIMIT_LIVE: Duration = Duration::from_secs(30 * 60);
const LIMIT_VM: Duration = Duration::from_secs(25 * 60);

/// What the steps can rely on.
pub struct Preparation {
    /// Probes that were built just now: live and end-to-end tests run with these.
    fresh_probes: Option<PathBuf>,
    /// Why there is no cargo-deny.
    no_deny: Option<String>,
    /// `PATH` with the tools of ours.
    path: Option<std::ffi::OsString>,
}

impl Preparation {
    /// Nothing was prepared.
    pub fn none() -> Self {
        Self { fresh_probes: None, no_deny: None, path: None }
    }

    /// Installs what is missing, builds fresh probes, and notes in the report what cannot be had.
    pub fn install(report: &mut Report) -> Self {
        println!("==> prepare");
        for missing in install::languages() {
            report.could_not_run("tests in that language", &missing);
        }
        for component in ["rustfmt", "clippy"] {
            if let Err(error) = install::rust_component(component) {
                report.could_not_run(component, &format!("{error:#}"));
            }
        }
        if let Err(error) = install::promtool() {
            report.could_not_run("promtool check metrics", &format!("{error:#}"));
        }
        let no_deny = install::cargo_deny().err().map(|error| format!("{error:#}"));
        let fresh_probes = match fresh_probes() {
            Ok(file) => Some(file),
            Err(error) => {
                let why = format!("{error:#}; the committed ones are tested instead");
                report.could_not_run("freshly built probes", &why);
                None
            }
        };
        Self { fresh_probes, no_deny, path: command::path_with_tools().ok() }
    }

    /// Adds to a command what the tests look for.
    fn environment(&self, command: &mut Command) {
        // The recorder that the tests start: the one that users run.
        command.env("HOLMES_BIN", workspace::recorder());
        if let Some(probes) = &self.fresh_probes {
            // Read by holmes-user's build script.
            command.env("HOLMES_PROBES", probes);
        }
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = command::of_cargo(arguments);
        self.environment(&mut cargo);
        cargo
    }

    /// Runs the test executables as root, where we are not.
    fn as_root(&self, mut cargo: Command) -> Command {
        if !command::is_root() {
            let runner = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", arch_upper());
            cargo.env(runner, "sudo -n --preserve-env");
        }
        cargo
    }
}

fn arch_upper() -> String {
    std::env::consts::ARCH.to_uppercase()
}

fn fresh_probes() -> anyhow::Result<PathBuf> {
    install::probe_toolchain()?;
    let toolchain = toolchain::choose(ebpf::manifest_toolchain().as_deref())?;
    ebpf::build_into(&workspace::target().join("fresh-probes"), &toolchain)
}

/// Every step, in order.
pub fn steps(quick: bool, prepared: &Preparation) -> Vec<Step> {
    let cargo = |arguments: &[&str]| prepared.cargo(arguments);
    let step =
        |name, commands| Step { name, action: Action::Commands { commands, limit: LIMIT_BUILD } };
    // Workspaces of their own.
    let format = |manifest| {
        let mut format = cargo(&["fmt", "--check", "--manifest-path"]);
        format.arg(workspace::root().join(manifest));
        format
    };
    let (format_probes, format_fuzz) =
        (format("holmes-ebpf/Cargo.toml"), format("tests/fuzz/Cargo.toml"));
    let mut document = cargo(&["doc", "--workspace", "--no-deps"]);
    document.env("RUSTDOCFLAGS", "-Dwarnings");

    let mut steps = vec![
        step("fmt", vec![cargo(&["fmt", "--all", "--check"]), format_probes, format_fuzz]),
        step(
            "clippy",
            vec![cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-Dwarnings",
            ])],
        ),
        step("doc", vec![document]),
        Step { name: "tidy", action: Action::Task(tidy::run) },
    ];
    if !quick {
        steps.push(deny(prepared));
    }
    steps.push(step(
        "unit",
        vec![
            // `deploy` is the one test target outside the crate of tests: it reads the manifests.
            cargo(&[
                "test",
                "--workspace",
                "--locked",
                "--lib",
                "--bins",
                "--test",
                "deploy",
                "--no-fail-fast",
            ]),
            cargo(&["test", "--workspace", "--locked", "--doc", "--no-fail-fast"]),
        ],
    ));
    if quick {
        return steps;
    }
    let build = || cargo(&["build", "--release", "--locked", "--package", "holmes-user"]);
    steps.push(step("build", vec![build()]));
    steps.push(step("integration", vec![suite(prepared, "integration")]));
    steps.push(Step { name: "ebpf --check", action: Action::Task(ebpf::check) });
    for name in ["live", "e2e"] {
        steps.push(Step { name, action: as_root(prepared, name) });
    }
    steps.push(Step { name: "vm", action: other_kernels(prepared) });
    steps
}

/// The live tests on other kernels. That these cannot be fetched is a failure, and no excuse.
fn other_kernels(prepared: &Preparation) -> Action {
    if let Some(why) = vm::impossible() {
        return Action::Impossible(why.to_owned());
    }
    let mut task = prepared.cargo(&["xtask", "vm"]);
    task.args(vm::BRIEF);
    Action::Commands { commands: vec![task], limit: LIMIT_VM }
}

fn deny(prepared: &Preparation) -> Step {
    let action = match &prepared.no_deny {
        Some(why) => Action::Impossible(why.clone()),
        None => Action::Commands {
            commands: vec![prepared.cargo(&["deny", "check", "licenses", "bans", "sources"])],
            limit: LIMIT_BUILD,
        },
    };
    Step { name: "deny", action }
}

/// One test target of the crate of tests. One test at a time: the programs they measure would
/// otherwise take each other's CPU.
fn suite(prepared: &Preparation, name: &str) -> Command {
    prepared.cargo(&[
        "test",
        "--locked",
        "--package",
        "holmes-tests",
        "--test",
        name,
        "--no-fail-fast",
        "--",
        "--test-threads=1",
    ])
}

fn as_root(prepared: &Preparation, name: &str) -> Action {
    if !command::is_root() && !command::sudo_without_password() {
        return Action::Impossible(
            "needs root: run `sudo -v` first, or the whole command as root".to_owned(),
        );
    }
    let commands = vec![prepared.as_root(suite(prepared, name))];
    Action::Commands { commands, limit: LIMIT_LIVE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(quick: bool) -> Vec<&'static str> {
        steps(quick, &Preparation::none()).iter().map(|step| step.name).collect()
    }

    #[test]
    fn lints_come_before_tests_and_live_tests_last() {
        assert_eq!(
            names(false),
            [
                "fmt",
                "clippy",
                "doc",
                "tidy",
                "deny",
                "unit",
                "build",
                "integration",
                "ebpf --check",
                "live",
                "e2e",
                "vm",
            ]
        );
    }

    #[test]
    fn quick_needs_no_root_and_no_installed_tool() {
        assert_eq!(names(true), ["fmt", "clippy", "doc", "tidy", "unit"]);
    }

    #[test]
    fn a_missing_tool_becomes_a_reason() {
        let prepared = Preparation { no_deny: Some("no network".into()), ..Preparation::none() };
        match deny(&prepared).action {
            Action::Impossible(why) => assert_eq!(why, "no network"),
            _ => panic!("cargo-deny is missing"),
        }
    }
}
