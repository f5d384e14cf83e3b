//! The heap profile that a Go program keeps of itself, for `goroutines --heap`.
//!
//! Must not: write where to; `goroutines` does.

use tracing::{info, warn};

use super::goroutines::owner;
use super::record::{NAMING, pprof};
use super::symbolizer;
use crate::collect::clock;
use crate::golang::{GoNames, GoProcess, heap_debug1};
use crate::profile::About;
use crate::settings::{GoroutineFormat, NameSettings};
use crate::symbolize::Name;
use crate::window::{ProcessHeap, go_heap_cut};

/// The heap profile of a process in this format: pprof, or else text.
///
/// # Errors
/// It keeps none, cannot be read, or has just ended.
pub(super) fn heap(process: &GoProcess, format: GoroutineFormat) -> anyhow::Result<Vec<u8>> {
    let from_unix_ns = clock::unix_ns();
    let profile = process.heap()?;
    info!("{profile}, read in {:.1} ms", profile.took.as_secs_f64() * 1e3);
    if profile.is_cut {
        warn!("it has more stacks than are read: the oldest are left out");
    }
    if format != GoroutineFormat::Pprof {
        return Ok(heap_debug1(&profile, &mut GoNames::new(process)?).into_bytes());
    }
    let found = ProcessHeap::of(&profile, owner(process.pid)?);
    let about = About::go_heap(from_unix_ns, &format!("process {}", process.pid), &found.note);
    let cut = go_heap_cut(&[found], profile.taken);
    let names = NameSettings::default();
    let (symbols, _) = symbolizer(&names, None).budget(NAMING).name(&[&cut]);
    Ok(pprof(&cut, &symbols, &about))
}
