//! The workloads in Go.

use std::path::PathBuf;
use std::process::Command;

use super::{Workload, built, source};

/// How a program in Go is built.
#[derive(Clone, Copy, Default)]
struct Build<'a> {
    /// Of these files of `tests/workloads`.
    files: &'a [&'a str],
    /// With these arguments of `go build`.
    arguments: &'a [&'a str],
    /// With C code.
    c: bool,
    /// By this version; the installed one, if `None`.
    version: Option<&'a str>,
}

impl Build<'_> {
    /// Builds it under this name, once.
    fn named(self, name: &str) -> anyhow::Result<PathBuf> {
        let files: Vec<PathBuf> = self.files.iter().map(|name| source(name)).collect();
        built(name, &files.iter().collect::<Vec<_>>(), |out| {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(out).args(self.arguments).args(&files);
            go.env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", if self.c { "1" } else { "0" });
            go.env("GOTOOLCHAIN", self.version.unwrap_or("local"));
            go
        })
    }
}

impl Workload {
    /// `tests/workloads/spin.go`; Go keeps frame pointers always.
    ///
    /// # Errors
    /// Go is missing or refuses.
    pub fn go_spin() -> anyhow::Result<Self> {
        let program = Build { files: &["spin.go"], ..Build::default() }.named("spin-go")?;
        Ok(Self::new(program, "main.spinInGo", "main.quietWorkInGo"))
    }

    /// The same without its symbol table and debug information.
    ///
    /// # Errors
    /// As [`Workload::go_spin`].
    pub fn stripped_go_spin() -> anyhow::Result<Self> {
        let build =
            Build { files: &["spin.go"], arguments: &["-ldflags=-s -w"], ..Build::default() };
        let program = build.named("spin-go-stripped")?;
        Ok(Self::new(program, "main.spinInGo", "main.quietWorkInGo"))
    }

    /// `tests/workloads/resident.go`.
    ///
    /// # Errors
    /// As [`Workload::go_spin`].
    pub fn go_resident() -> anyhow::Result<Self> {
        let program = Build { files: &["resident.go"], ..Build::default() }.named("resident-go")?;
        Ok(Self::new(program, "", ""))
    }

    /// The same, built by this version of Go with these arguments of `go build`.
    ///
    /// # Errors
    /// That Go cannot be had, or refuses.
    pub fn go_resident_by(version: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let name = format!("resident-{}", variant(Some(version), arguments));
        let build = Build {
            files: &["resident.go"],
            arguments,
            version: Some(version),
            ..Build::default()
        };
        Ok(Self::new(build.named(&name)?, "", ""))
    }

    /// `tests/workloads/cases.go`, with C.
    ///
    /// # Errors
    /// As [`Workload::go_spin`].
    pub fn go_cases() -> anyhow::Result<Self> {
        let build = Build { files: &["cases.go"], c: true, ..Build::default() };
        Ok(Self::new(build.named("cases-go")?, "", ""))
    }

    /// `tests/workloads/names.go`, built with these arguments of `go build`; with C code
    /// where `c` says so. `name` tells the programs apart.
    ///
    /// # Errors
    /// As [`Workload::go_spin`].
    pub fn go_names(name: &str, arguments: &[&str], c: bool) -> anyhow::Result<PathBuf> {
        let files: &[&str] = if c { &["names.go", "names_cgo.go"] } else { &["names.go"] };
        Build { files, arguments, c, version: None }.named(name)
    }

    /// The same as this version builds it: Go 1.27 or a later one, which takes methods with type
    /// arguments of their own.
    ///
    /// # Errors
    /// That Go cannot be had, or refuses.
    pub fn go_names_of(version: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
        let files = &["names.go", "names_methods.go"];
        let name = format!("names-{}", variant(Some(version), arguments));
        Build { files, arguments, c: false, version: Some(version) }.named(&name)
    }

    /// `tests/workloads/goroutines.go`, built by this version of Go (the installed one, if `None`) with
    /// these arguments of `go build`; with C code where `c` says so.
    ///
    /// # Errors
    /// That Go cannot be had, or refuses.
    pub fn goroutines(version: Option<&str>, arguments: &[&str], c: bool) -> anyhow::Result<Self> {
        let files: &[&str] =
            if c { &["goroutines.go", "goroutines_cgo.go"] } else { &["goroutines.go"] };
        let c_kind = if c { "-c" } else { "" };
        let name = format!("goroutines-{}{c_kind}", variant(version, arguments));
        let program = Build { files, arguments, c, version }.named(&name)?;
        Ok(Self::new(program, "", ""))
    }

    /// `tests/workloads/heap.go`, built by this version of Go (the installed one, if `None`) with these
    /// arguments of `go build`.
    ///
    /// # Errors
    /// That Go cannot be had, or refuses.
    pub fn go_heap(version: Option<&str>, arguments: &[&str]) -> anyhow::Result<Self> {
        let name = format!("heap-{}", variant(version, arguments));
        let build = Build { files: &["heap.go"], arguments, c: false, version };
        Ok(Self::new(build.named(&name)?, "", ""))
    }

    /// `tests/workloads/havoc.go`, which names variables of the runtime.
    ///
    /// # Errors
    /// As [`Workload::go_spin`].
    pub fn havoc() -> anyhow::Result<Self> {
        let arguments: &[&str] = &["-ldflags=-checklinkname=0"];
        let build = Build { files: &["havoc.go"], arguments, ..Build::default() };
        Ok(Self::new(build.named("havoc-go")?, "", ""))
    }

    /// `tests/workloads/changes.go`, built by this version of Go (the installed one, if `None`).
    ///
    /// # Errors
    /// That Go cannot be had, or refuses.
    pub fn go_changes(version: Option<&str>) -> anyhow::Result<Self> {
        let build = Build { files: &["changes.go"], version, ..Build::default() };
        let name = format!("changes-go-{}", version.unwrap_or("installed"));
        Ok(Self::new(build.named(&name)?, "", ""))
    }
}

/// What tells programs of other versions and arguments apart, as part of a name.
fn variant(version: Option<&str>, arguments: &[&str]) -> String {
    let arguments = arguments.concat().replace(|it: char| !it.is_alphanumeric(), "");
    format!("{}{arguments}", version.unwrap_or("installed"))
}
