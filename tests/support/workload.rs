//! The programs under `tests/workloads`, built when first asked for and kept in the target folder.
//!
//! Must not: run them.

mod go;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;

use crate::command::target_profile_dir;

/// One build at a time: two tests may ask for the same program.
static BUILDING: Mutex<()> = Mutex::new(());

/// A program that is ready to run.
#[derive(Clone, Debug)]
pub struct Workload {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// A part of the name of the function it spins in.
    pub spins_in: &'static str,
    /// A part of the name of the function it does its quiet work in.
    pub rests_in: &'static str,
}

impl Workload {
    /// `tests/workloads/<name>.c`, with frame pointers.
    ///
    /// # Errors
    /// There is no C compiler, or it refuses.
    pub fn c(name: &str) -> anyhow::Result<Self> {
        Self::compiled(name, "c", "cc", &["-fno-omit-frame-pointer"])
    }

    /// `tests/workloads/<name>.c` as distributions build: without frame pointers, functions of
    /// libraries bound when they are first called.
    ///
    /// # Errors
    /// As [`Workload::c`].
    pub fn bare_c(name: &str) -> anyhow::Result<Self> {
        Self::compiled(name, "bare", "cc", &["-fomit-frame-pointer", "-fno-builtin", "-Wl,-z,lazy"])
    }

    /// `tests/workloads/<name>.c` without frame pointers, by another compiler or with more options.
    ///
    /// # Errors
    /// As [`Workload::c`].
    pub fn compiled(
        name: &str,
        kind: &str,
        compiler: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let (source, control) = (source(&format!("{name}.c")), source("control.h"));
        let program = built(&format!("{name}-{kind}"), &[&source, &control], |out| {
            let mut cc = Command::new(compiler);
            cc.args(["-std=gnu11", "-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"])
                .args(options)
                .arg("-o")
                .args([out, &source]);
            cc
        })?;
        Ok(Self::new(program, "spin_in_c", "quiet_work_in_c"))
    }

    /// `tests/workloads/<name>.cc`.
    ///
    /// # Errors
    /// There is no C++ compiler, or it refuses.
    pub fn cpp(name: &str) -> anyhow::Result<Self> {
        let (source, control) = (source(&format!("{name}.cc")), source("control.h"));
        let program = built(&format!("{name}-cpp"), &[&source, &control], |out| {
            let mut cpp = Command::new("c++");
            cpp.args(["-std=gnu++17", "-O2", "-g", "-Wall", "-Werror", "-o"]);
            cpp.args([out, &source]);
            cpp
        })?;
        Ok(Self::new(program, "", ""))
    }

    /// `tests/workloads/spin.rs`, with frame pointers.
    ///
    /// # Errors
    /// rustc is missing or refuses.
    pub fn rust_spin() -> anyhow::Result<Self> {
        let source = source("spin.rs");
        let program = built("spin-rust", &[&source], |out| {
            let mut rustc = Command::new("rustc");
            rustc
                .args(["--edition=2024", "-O", "-g", "-C", "force-frame-pointers=yes", "-o"])
                .args([out, &source]);
            rustc
        })?;
        Ok(Self::new(program, "spin_in_rust", "quiet_work_in_rust"))
    }

    /// `tests/workloads/spin.rs` as it is delivered: without frame pointers and without symbols.
    ///
    /// # Errors
    /// As [`Workload::rust_spin`].
    pub fn stripped_rust_spin() -> anyhow::Result<Self> {
        let source = source("spin.rs");
        let program = built("spin-rust-stripped", &[&source], |out| {
            let mut rustc = Command::new("rustc");
            rustc.args(["--edition=2024", "-O", "-C", "strip=symbols", "-o"]).args([out, &source]);
            rustc
        })?;
        Ok(Self::new(program, "spin_in_rust", "quiet_work_in_rust"))
    }

    /// `tests/workloads/<name>.c` as a library that is loaded at run time.
    ///
    /// # Errors
    /// As [`Workload::c`].
    pub fn library(name: &str) -> anyhow::Result<PathBuf> {
        let options = ["-fomit-frame-pointer", "-shared", "-fPIC"];
        Ok(Self::compiled(name, "library", "cc", &options)?.program)
    }

    /// `tests/workloads/<file>` under an interpreter.
    pub fn script(interpreter: PathBuf, options: &[&str], file: &str) -> Self {
        let mut workload = Self::new(interpreter, "", "");
        workload.arguments = options.iter().map(OsString::from).collect();
        workload.arguments.push(source(file).into());
        workload
    }

    /// The file that is run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same from a copy of the file.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copied_to(&self, path: &Path) -> anyhow::Result<Self> {
        std::fs::copy(&self.program, path)
            .with_context(|| format!("copying to {}", path.display()))?;
        Ok(Self { program: path.to_owned(), ..self.clone() })
    }

    /// `tests/workloads/<name>.rs` with optimisation and its symbols.
    ///
    /// # Errors
    /// As [`Workload::c`].
    pub fn rust(name: &str) -> anyhow::Result<Self> {
        let source = source(&format!("{name}.rs"));
        let program = built(&format!("{name}-rust"), &[&source], |out| {
            let mut rustc = Command::new("rustc");
            rustc.args(["--edition=2024", "-O", "-g", "-o"]).args([out, &source]);
            rustc
        })?;
        Ok(Self::new(program, "", ""))
    }

    /// `tests/workloads/spin.py` under the interpreter that `python3` stands for. It is found once:
    /// `python3` may be a shell script that looks for it each time.
    ///
    /// # Errors
    /// There is no Python.
    pub fn python_spin() -> anyhow::Result<Self> {
        Self::python("spin.py")
    }

    /// Another file of `tests/workloads` under that interpreter.
    ///
    /// # Errors
    /// As [`Workload::python_spin`].
    pub fn python(file: &str) -> anyhow::Result<Self> {
        let output = Command::new("python3")
            .args(["-c", "import os, sys; print(os.path.realpath(sys.executable))"])
            .stdin(Stdio::null())
            .output()
            .context("running python3: is it installed?")?;
        anyhow::ensure!(output.status.success(), "python3 does not run: {output:?}");
        let program = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let mut workload = Self::new(program, "_PyEval_EvalFrameDefault", "_PyEval");
        workload.arguments = vec!["-u".into(), source(file).into()];
        Ok(workload)
    }

    /// `tests/workloads/spin.js` under Node, which says what it compiles in a perf-map file and has
    /// no code of its own between the functions of a stack.
    ///
    /// # Errors
    /// There is no Node.
    pub fn node_spin() -> anyhow::Result<Self> {
        let output = Command::new("node")
            .args(["-p", "process.execPath"])
            .stdin(Stdio::null())
            .output()
            .context("running node: is it installed?")?;
        anyhow::ensure!(output.status.success(), "node does not run: {output:?}");
        let program = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let mut workload = Self::new(program, "spinHere", "turn");
        let options = ["--perf-basic-prof", "--interpreted-frames-native-stack"];
        workload.arguments = options.map(OsString::from).into();
        // With its maps it writes a log, otherwise into the current folder.
        let log = target_profile_dir()?.join("workloads/node.log");
        std::fs::create_dir_all(log.parent().context("the log has no folder")?)?;
        let log = format!("--logfile={}", log.display());
        workload.arguments.extend(["--no-logfile-per-isolate".into(), log.into()]);
        workload.arguments.push(source("spin.js").into());
        Ok(workload)
    }

    /// `tests/workloads/Spin.java`, which the Java launcher compiles itself.
    ///
    /// # Errors
    /// There is no Java development kit.
    pub fn java_spin() -> anyhow::Result<Self> {
        let java = java()?;
        let mut workload = Self::new(java, "spinHere", "work");
        workload.arguments = vec!["-XX:+PreserveFramePointer".into(), source("Spin.java").into()];
        Ok(workload)
    }

    /// `tests/workloads/Resident.java`, with a collector that gives memory back when it is asked to
    /// collect.
    ///
    /// # Errors
    /// As [`Workload::java_spin`].
    pub fn java_resident() -> anyhow::Result<Self> {
        let mut workload = Self::new(java()?, "", "");
        let options = ["-XX:+PreserveFramePointer", "-XX:+UseG1GC", "-Xms64m", "-Xmx3g"];
        workload.arguments = options.map(OsString::from).into();
        // No more may stay free after a collection.
        workload
            .arguments
            .extend(["-XX:MinHeapFreeRatio=1".into(), "-XX:MaxHeapFreeRatio=5".into()]);
        workload.arguments.push(source("Resident.java").into());
        Ok(workload)
    }

    /// `tests/workloads/Deadlock.java`, with a compiler that takes no branch for impossible: what is blocked
    /// stays compiled.
    ///
    /// # Errors
    /// As [`Workload::java_spin`].
    pub fn java_deadlock() -> anyhow::Result<Self> {
        let mut workload = Self::new(java()?, "", "");
        let options = ["-XX:+PreserveFramePointer", "-XX:TieredStopAtLevel=1", "-Xmx256m"];
        workload.arguments = options.map(OsString::from).into();
        workload.arguments.push(source("Deadlock.java").into());
        Ok(workload)
    }

    fn new(program: PathBuf, spins_in: &'static str, rests_in: &'static str) -> Self {
        Self { program, arguments: Vec::new(), spins_in, rests_in }
    }

    /// The command that runs it, listening on a pipe.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped());
        command
    }
}

fn java() -> anyhow::Result<PathBuf> {
    Path::new("/usr/bin/java").canonicalize().context("is a JDK installed?")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads").join(name)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// Builds into the target folder unless what is there is newer than every source.
fn built(
    name: &str,
    sources: &[&PathBuf],
    compiler: impl FnOnce(&PathBuf) -> Command,
) -> anyhow::Result<PathBuf> {
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = target_profile_dir()?.join("workloads");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let program = dir.join(name);
    let newest = sources.iter().filter_map(|source| modified(source)).max();
    if modified(&program) > newest && newest.is_some() {
        return Ok(program);
    }
    // Under another name until it is whole: a build that was interrupted must not look finished.
    let unfinished = dir.join(format!("{name}.new"));
    let mut command = compiler(&unfinished);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}: is the compiler installed?"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::rename(&unfinished, &program)
        .with_context(|| format!("renaming {}", unfinished.display()))?;
    Ok(program)
}

#[cfg(test)]
mod tests;
