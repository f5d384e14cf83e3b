//! Busy programs in the languages that are here, as their users run them: no option makes their
//! stacks easier to walk.
//!
//! Must not: install one.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::listener::{Listener, Stream};
use super::session::{Session, program, workload};
use crate::command;

/// Virtual machines compile what is hot within this time.
const WARM_UP: Duration = Duration::from_secs(3);

/// Calls below main of the C program.
const CALLS: &str = "18";

/// Longer than any benchmark.
const OPENSSL_SECONDS: &str = "100000";

/// Preferred to another that is earlier on the path: it is what services run, and it is stripped.
const DISTRIBUTION_PYTHON: &str = "/usr/bin/python3";

/// A language, or a program that stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C with `-O2` and without frame pointers.
    C,
    /// The `openssl speed` of the distribution: C and assembler, stripped.
    Openssl,
    /// Go.
    Go,
    /// CPython.
    Python,
    /// V8.
    Node,
    /// The JVM.
    Java,
}

impl Language {
    /// Each.
    pub const ALL: [Self; 6] =
        [Self::C, Self::Openssl, Self::Go, Self::Python, Self::Node, Self::Java];

    /// As rows of the table call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "C, -O2",
            Self::Openssl => "openssl speed",
            Self::Go => "go",
            Self::Python => "python3",
            Self::Node => "node",
            Self::Java => "java",
        }
    }

    /// Whether all of it was compiled before it ran: the budget of whole stacks is for these.
    pub fn is_native(self) -> bool {
        matches!(self, Self::C | Self::Openssl | Self::Go | Self::Python)
    }

    /// The tool that must be installed.
    pub fn tool(self) -> &'static str {
        match self {
            Self::C => "cc",
            Self::Openssl => "openssl",
            Self::Go => "go",
            Self::Python => "python3",
            Self::Node => "node",
            Self::Java => "java",
        }
    }

    /// Whether it is.
    pub fn is_here(self) -> bool {
        command::find(self.tool()).is_some()
    }

    /// Starts its program and waits until it is busy and compiled.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn start(self, session: &Session) -> Result<Listener> {
        let mut command = match self {
            Self::C => program(&session.c_program("depth", &["-fomit-frame-pointer"])?, &[CALLS]),
            Self::Openssl => {
                let arguments =
                    ["speed", "-seconds", OPENSSL_SECONDS, "-bytes", "16384", "-evp", "sha256"];
                command::of("openssl", &arguments)
            }
            Self::Go => {
                let built = session.file("spin-go");
                let mut go = command::of("go", &["build", "-o"]);
                command::run(go.arg(&built).arg(workload("spin.go")))?;
                program(&built, &[])
            }
            Self::Python => {
                let here = Path::new(DISTRIBUTION_PYTHON).is_file();
                let python = if here { DISTRIBUTION_PYTHON } else { self.tool() };
                // `python3` may be a script that looks for the interpreter: ask for that.
                let ask = "import os, sys; print(os.path.realpath(sys.executable))";
                let python = command::output(&mut command::of(python, &["-c", ask]))?;
                let mut python = command::of(python.trim(), &["-u"]);
                python.arg(workload("spin.py"));
                python
            }
            Self::Node => command::of("node", &[workload("burn.js")]),
            Self::Java => command::of("java", &[workload("Burn.java")]),
        };
        let mut child = Listener::start(&mut command, Stream::Output)?;
        // openssl ends its first line when it ends.
        if self != Self::Openssl {
            child.hear("ready", session)?;
        }
        if matches!(self, Self::Go | Self::Python) {
            child.tell("spin")?;
        }
        session.pause(WARM_UP)?;
        child.still_runs()?;
        Ok(child)
    }
}
