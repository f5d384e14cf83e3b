//! The programs under `tests/workloads`, built when first asked for and kept in the target folder.
//!
//! Must not: run them.

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

    /// `tests/workloads/spin.go` without its symbol table and debug information.
    ///
    /// # Errors
    /// As [`Workload::go_spin`].
    pub fn stripped_go_spin() -> anyhow::Result<Self> {
        let source = source("spin.go");
        let program = built("spin-go-stripped", &[&source], |out| {
            let mut go = Command::new("go");
            go.args(["build", "-ldflags=-s -w", "-o"]).args([out, &source]);
            go.env("GOFLAGS", "-mod=mod");
            go
        })?;
        Ok(Self::new(program, "main.spinInGo", "main.quietWorkInGo"))
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

    /// `tests/workloads/spin.go`; Go keeps frame pointers always.
    ///
    /// # Errors
    /// Go is missing or refuses.
    pub fn go_spin() -> anyhow::Result<Self> {
        let source = source("spin.go");
        let program = built("spin-go", &[&source], |out| {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).args([out, &source]).env("GOFLAGS", "-mod=mod");
            go
        })?;
        Ok(Self::new(program, "main.spinInGo", "main.quietWorkInGo"))
    }

    /// `tests/workloads/names.go`, built with these arguments of `go build`; with C code
    /// where `c` says so. `name` tells the programs apart.
    ///
    /// # Errors
    /// Go is missing or refuses.
    pub fn go_names(name: &str, arguments: &[&str], c: bool) -> anyhow::Result<PathBuf> {
        let (own, with_c) = (source("names.go"), source("names_cgo.go"));
        built(name, &[&own, &with_c], |out| {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(out).args(arguments).arg(&own).args(c.then_some(&with_c));
            go.env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", if c { "1" } else { "0" });
            go
        })
    }

    /// `tests/workloads/spin.py` under the interpreter that `python3` stands for. It is found once:
    /// `python3` may be a shell script that looks for it each time.
    ///
    /// # Errors
    /// There is no Python.
    pub fn python_spin() -> anyhow::Result<Self> {
        let output = Command::new("python3")
            .args(["-c", "import os, sys; print(os.path.realpath(sys.executable))"])
            .stdin(Stdio::null())
            .output()
            .context("running python3: is it installed?")?;
        anyhow::ensure!(output.status.success(), "python3 does not run: {output:?}");
        let program = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let mut workload = Self::new(program, "_PyEval_EvalFrameDefault", "_PyEval");
        workload.arguments = vec!["-u".into(), source("spin.py").into()];
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
        let java = Path::new("/usr/bin/java").canonicalize().context("is a JDK installed?")?;
        let mut workload = Self::new(java, "spinHere", "work");
        workload.arguments = vec!["-XX:+PreserveFramePointer".into(), source("Spin.java").into()];
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

/// The workloads do what the tests rely on.
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::program::Program;
    use crate::transcript::eventually;

    /// CPU time of a process so far, in clock ticks.
    fn ticks(program: &Program) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", program.pid()))?;
        let (_, after) = stat.rsplit_once(") ").context("a stat without a name")?;
        // utime and stime: fields 14 and 15, where the state behind the name is field 3.
        let fields = after.split(' ').skip(11).take(2);
        Ok(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
    }

    /// What the live tests watch is there before they begin: `cargo xtask vm` calls this on the host,
    /// because compilers are slow on an emulated CPU.
    #[test]
    fn every_workload_builds() -> anyhow::Result<()> {
        for name in ["churn", "hog", "memory", "shares", "spin", "stacks", "threads"] {
            assert!(Workload::c(name)?.program.is_file());
        }
        assert!(Workload::rust_spin()?.program.is_file());
        assert!(Workload::go_spin()?.program.is_file());
        Workload::python_spin()?;
        Ok(())
    }

    #[test]
    fn each_language_spins_when_told_and_only_then() -> anyhow::Result<()> {
        let _machine = crate::machine::alone();
        let spinners = [
            Workload::c("spin")?,
            Workload::rust_spin()?,
            Workload::go_spin()?,
            Workload::python_spin()?,
        ];
        for workload in spinners {
            let mut program = Program::start(&workload, None)?;
            // Its own pace on a busy machine is unknown; that it goes on without end is not.
            let before = ticks(&program)?;
            program.ask("spin", "spinning")?;
            let spent = || ticks(&program).ok().filter(|&now| now > before + 30);
            eventually("0.3 s of CPU time", spent).with_context(|| format!("{workload:?}"))?;
            program.ask("rest", "resting")?;
        }
        Ok(())
    }

    #[test]
    fn the_shares_are_seventy_twenty_ten() -> anyhow::Result<()> {
        let _machine = crate::machine::alone();
        let mut program = Program::start(&Workload::c("shares")?, None)?;
        // A hundred times the longest slice.
        eventually("5 s of CPU time", || ticks(&program).ok().filter(|&now| now > 500))?;
        let line = program.ask("report", "shares ")?;
        let shares = line.split(' ').skip(1).filter_map(|part| part.split_once('='));
        let percents: Vec<f64> = shares.filter_map(|(_, percent)| percent.parse().ok()).collect();
        assert_eq!(percents.len(), 3, "{line}");
        for (got, wanted) in percents.iter().zip([70.0, 20.0, 10.0]) {
            assert!((got - wanted).abs() < 1.0, "{line}");
        }
        Ok(())
    }

    #[test]
    fn a_thousand_threads_live_until_they_are_released() -> anyhow::Result<()> {
        let mut program = Program::start(&Workload::c("threads")?, None)?;
        let tasks = format!("/proc/{}/task", program.pid());
        let count = || fs::read_dir(&tasks).map(|entries| entries.count()).unwrap_or(0);
        program.ask("create 1000", "created 1000")?;
        assert_eq!(count(), 1001);
        program.ask("release", "released")?;
        eventually("one thread is left", || (count() == 1).then_some(()))
    }

    #[test]
    fn the_memory_script_is_the_same_every_time() -> anyhow::Result<()> {
        let mut program = Program::start(&Workload::c("memory")?, None)?;
        let first = program.ask("script", "asked ")?;
        assert!(first.contains("failed=7 surprises=0"), "{first}");
        assert_eq!(program.ask("script", "asked ")?, first);
        assert!(program.ask("touch 8", "asked ")?.contains("mmap_bytes=8388608"));
        Ok(())
    }

    #[test]
    fn a_hog_takes_what_it_is_told_to() -> anyhow::Result<()> {
        let mut program = Program::start(&Workload::c("hog")?, None)?;
        program.ask("hold 3", "holding")?;
        program.ask("eat 4 2", "eating")?;
        program.hear("full")?;
        let status = fs::read_to_string(format!("/proc/{}/status", program.pid()))?;
        let line =
            status.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        assert!((7 << 10..8 << 10).contains(&kib), "{line}");
        Ok(())
    }

    #[test]
    fn churn_ends_every_process_it_starts() -> anyhow::Result<()> {
        let mut program = Program::start(&Workload::c("churn")?, None)?;
        program.ask("churn 20 1", "churned 20")?;
        Ok(())
    }
}
