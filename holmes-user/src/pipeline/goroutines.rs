//! The goroutines of one process, or its own heap profile, to a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tracing::{info, warn};

use super::go_heap::heap;
use super::live::PROC;
use super::record::{NAMING, Output, pprof};
use super::symbolizer;
use crate::collect::{Comm, clock};
use crate::golang::{Blocked, GoNames, GoProcess, Snapshot, debug1, debug2, text};
use crate::process::{Cgroup, ProcessTable};
use crate::profile::About;
use crate::settings::{GoroutineFormat, GoroutineSettings, NameSettings};
use crate::symbolize::Name;
use crate::window::{Owner, ProcessGoroutines, goroutine_cut};

/// Reads what was asked for of a process, goroutines once or twice, and writes the file.
///
/// # Errors
/// The process does not exist, is no Go program, or cannot be read; or the file cannot be written.
pub fn run(settings: &GoroutineSettings) -> anyhow::Result<()> {
    let pid = settings.pid;
    let what = if settings.heap { "heap profile" } else { "goroutines" };
    let cannot = || format!("cannot tell the {what} of process {pid}");
    let mut output = Output::open(&settings.output)?;
    let process = GoProcess::open(Path::new(PROC), pid).with_context(cannot)?;
    let bytes = if settings.heap {
        heap(&process, settings.format)
    } else {
        goroutines(&process, settings)
    };
    match output.write(&bytes.with_context(cannot)?) {
        // A reader that has seen enough, as `head`, is no failure.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// The goroutines of a process in the format that was asked for.
fn goroutines(process: &GoProcess, settings: &GoroutineSettings) -> anyhow::Result<Vec<u8>> {
    let from_unix_ns = clock::unix_ns();
    let mut snapshot = process.snapshot()?;
    let mut blocked = None;
    if let Some(pause) = settings.twice {
        std::thread::sleep(pause);
        let later = process.snapshot()?;
        blocked = Some(Blocked::between(&snapshot, &later));
        snapshot = later;
    }
    info!("{snapshot}, read in {:.1} ms", snapshot.took.as_secs_f64() * 1e3);
    if snapshot.unread > 0 {
        warn!("{} goroutines went on too fast to be read, or make no sense", snapshot.unread);
    }
    match settings.format {
        GoroutineFormat::Pprof => profile(process.pid, &snapshot, blocked.as_ref(), from_unix_ns),
        format => {
            let mut names = GoNames::new(process)?;
            let text = match format {
                GoroutineFormat::Debug1 => debug1(&snapshot, &mut names),
                GoroutineFormat::Debug2 => debug2(&snapshot, &mut names, snapshot.taken),
                _ => text(&snapshot, blocked.as_ref(), &mut names),
            };
            Ok(text.into_bytes())
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// The pprof profile of a snapshot.
fn profile(
    pid: u32,
    snapshot: &Snapshot,
    blocked: Option<&Blocked>,
    from_unix_ns: u64,
) -> anyhow::Result<Vec<u8>> {
    let found = ProcessGoroutines::of(snapshot, blocked, owner(pid)?);
    let cut = goroutine_cut(&[found], snapshot.taken, snapshot.taken.plus(snapshot.took));
    let names = NameSettings::default();
    let (symbols, _) = symbolizer(&names, None).budget(NAMING).name(&[&cut]);
    let about = About::goroutines(from_unix_ns, &format!("process {pid}"), [snapshot.to_string()]);
    Ok(pprof(&cut, &symbols, &about))
}

/// Whose the stacks of a process are.
pub(super) fn owner(pid: u32) -> anyhow::Result<Arc<Owner>> {
    let mut table = ProcessTable::new(Path::new(PROC));
    let image = table
        .prepare(pid, clock::monotonic())
        .context("what it has mapped cannot be read: it has just ended")?;
    let comm = std::fs::read_to_string(format!("{PROC}/{pid}/comm")).unwrap_or_default();
    Ok(Arc::new(Owner {
        tgid: pid,
        comm: Comm::from(comm.trim_end().to_owned()),
        // One process was asked for: which cgroup it is in tells nothing apart.
        cgroup: Arc::new(Cgroup { id: Default::default(), path: String::new(), container: None }),
        image: Some(image),
        recorder: false,
    }))
}
