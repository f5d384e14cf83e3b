//! A recording instead of a kernel: through window, rules, capture, profile and store.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing::{info, warn};

use super::{announce, balance};
use crate::capture::recording::{Reader, read_names};
use crate::capture::{FlightRecorder, Input};
use crate::settings::{ReplaySettings, Retention};
use crate::store::{IncidentDesk, IncidentStore};
use crate::symbolize::{Recorded, SymbolTable};

/// A replay puts its incidents beside whatever is there, and retires none.
const KEEP_EVERYTHING: Retention = Retention { max_bytes: u64::MAX, max_age: Duration::MAX };

/// Replays a recording and files its incidents.
///
/// # Errors
/// If the file is no recording, or the incidents cannot be written. A recording that is damaged
/// in the middle is replayed up to there first.
pub fn run(settings: ReplaySettings) -> anyhow::Result<()> {
    let open = || {
        File::open(&settings.input)
            .map(BufReader::new)
            .with_context(|| format!("cannot open the recording {}", settings.input.display()))
    };
    let damaged = || format!("cannot replay {}", settings.input.display());
    // An incident's names come after it in the file, so they are read first.
    let names = read_names(open()?).with_context(damaged)?;
    let store = IncidentStore::open(&settings.dump_dir, KEEP_EVERYTHING).map(Arc::new)?;
    let names = Box::new(Recorded::new(SymbolTable::from_names(names)));
    let mut desk = IncidentDesk::new(names, store, super::host_name(), Vec::new());

    let mut reader = Reader::new(open()?).with_context(damaged)?;
    let mut start = reader.start().clone();
    for edit in &settings.rules {
        edit.apply(&mut start.capture.rules);
    }
    let mut flight = FlightRecorder::new(start);
    let mut incidents = 0;
    let mut damage = None;
    for input in &mut reader {
        let input = match input {
            // The rules on the command line stand for those of the file, also after a reload.
            Ok(Input::Reload(mut capture)) => {
                for edit in &settings.rules {
                    edit.apply(&mut capture.rules);
                }
                Input::Reload(capture)
            }
            Ok(input) => input,
            Err(error) => {
                damage = Some(error);
                break;
            }
        };
        for incident in flight.accept(input) {
            announce(&incident);
            let written = desk.file(&incident).written?;
            info!("incident written: {}", written.folder.display());
            incidents += 1;
        }
    }
    if reader.is_truncated() {
        warn!("the recording ends in the middle of a line: its recorder did not end by itself");
    }
    info!("{}", balance(&flight.totals().samples_kept()));
    info!("{incidents} incidents from {} lines", reader.line());
    match damage {
        Some(error) => Err(error).with_context(damaged),
        None => Ok(()),
    }
}
