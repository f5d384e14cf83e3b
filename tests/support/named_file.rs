//! One ELF file whose addresses are named as the recorder names those of its samples, and tools to
//! make such files.
//!
//! Must not: judge the names.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use holmes_user::binary::{Bytes, Elf, build_id};
use holmes_user::collect::{CgroupId, Comm, Nanos, Stack};
use holmes_user::process::{Cgroup, Image, Mapping, Object, ObjectKind};
use holmes_user::symbolize::{Line, Name, NameStats, Symbolizer};
use holmes_user::window::{Cut, CutSample, Owner, ProfileKind};

use crate::command::recorder_binary;

/// Where the file is mapped: any place will do.
const BASE: u64 = 0x10_0000_0000;

/// A file that samples lie in.
#[derive(Debug)]
pub struct NamedFile {
    object: Arc<Object>,
    elf: Elf,
    size: u64,
}

/// What was said about some addresses.
#[derive(Debug)]
pub struct Answers {
    /// For each address its lines, innermost first; empty where there is no name.
    pub lines: Vec<Vec<Line>>,
    /// The counts.
    pub stats: NameStats,
}

impl NamedFile {
    /// Opens a file as the recorder does when it sees it mapped.
    ///
    /// # Errors
    /// It cannot be read, or is no ELF file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let elf = Elf::read(Bytes::File(&file))?;
        let object = Object {
            number: 3,
            kind: ObjectKind::File,
            path: path.display().to_string(),
            build_id: build_id(&file).unwrap_or_default(),
            file: Some(file),
        };
        let size = path.metadata()?.len();
        Ok(Self { object: Arc::new(object), elf, size })
    }

    /// The build-id, in hexadecimal.
    pub fn build_id(&self) -> &str {
        &self.object.build_id
    }

    /// First address and length of the code.
    ///
    /// # Errors
    /// There is none.
    pub fn text(&self) -> anyhow::Result<(u64, u64)> {
        let text = self.elf.section(".text").context("no .text")?;
        Ok((text.address, text.size))
    }

    /// Names addresses of the file (as they were linked).
    ///
    /// # Errors
    /// An address is in no segment.
    pub fn name(&self, symbolizer: &mut Symbolizer, addresses: &[u64]) -> anyhow::Result<Answers> {
        let offset = |&address: &u64| self.elf.offset_of(address).context("no such address");
        let offsets = addresses.iter().map(offset).collect::<anyhow::Result<Vec<u64>>>()?;
        let cut = self.cut(&offsets);
        let (table, stats) = symbolizer.name(&[&cut]);
        let lines = offsets.iter().map(|&offset| {
            let named = table.user.get(&(self.object.number, offset));
            named.map(|named| named.lines.clone()).unwrap_or_default()
        });
        Ok(Answers { lines: lines.collect(), stats })
    }

    /// One sample for each offset, whose leaf is there.
    pub fn cut(&self, offsets: &[u64]) -> Cut {
        let object = self.object.clone();
        let path = object.path.clone();
        let end = BASE + self.size.next_multiple_of(4096);
        let image = Image {
            number: 1,
            tgid: 1,
            start_time: 1,
            exe: path,
            mappings: vec![Mapping { start: BASE, end, offset: 0, object }],
        };
        let cgroup = Cgroup { id: CgroupId(1), path: "/".to_owned(), container: None };
        let owner = Arc::new(Owner {
            tgid: 1,
            comm: Comm::from("test".to_owned()),
            cgroup: Arc::new(cgroup),
            image: Some(Arc::new(image)),
            recorder: false,
        });
        let sample = |offset: &u64| CutSample {
            owner: owner.clone(),
            stack: Arc::new(Stack { user: [BASE + offset].into(), kernel: [].into() }),
            detail: Default::default(),
            labels: Vec::new(),
            values: holmes_user::window::pair([1, 1]),
        };
        let samples = offsets.iter().map(sample).collect();
        Cut { kind: ProfileKind::Cpu, from: Nanos(0), to: Nanos(1), samples }
    }
}

/// Names as the recorder's, by a child process of its binary; with the time that a busy machine
/// needs.
///
/// # Errors
/// The binary is missing.
pub fn patient_symbolizer() -> anyhow::Result<Symbolizer> {
    Ok(Symbolizer::with_budget(Duration::from_secs(120)).worker(recorder_binary()?))
}

/// Compiles a file of `tests/workloads` with debug information and a build-id.
///
/// # Errors
/// There is no compiler, or it refuses.
pub fn compile(source: &str, out: &Path) -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads").join(source);
    let (program, arguments): (_, &[&str]) = match path.extension().and_then(OsStr::to_str) {
        Some("rs") => ("rustc", &["--edition=2024", "-O", "-g", "-C", "link-arg=-Wl,--build-id"]),
        Some("cc") => ("c++", &["-std=c++17", "-O2", "-g", "-Wl,--build-id"]),
        _ => ("cc", &["-std=gnu11", "-O2", "-g", "-Wl,--build-id"]),
    };
    tool(
        program,
        arguments.iter().map(OsStr::new).chain([
            OsStr::new("-o"),
            out.as_os_str(),
            path.as_os_str(),
        ]),
    )?;
    Ok(out.to_owned())
}

/// Runs a tool to its end and gives what it printed.
///
/// # Errors
/// It is missing, or fails; the error shows what it said.
pub fn tool<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output =
        command.output().with_context(|| format!("running {program}: is it installed?"))?;
    anyhow::ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
