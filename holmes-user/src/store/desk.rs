//! The desk: where a cut incident gets its names and profiles, and goes to disk.
//!
//! Must not: decide what an incident holds. Naming is slow: the desk belongs on a thread of its
//! own.

use std::sync::Arc;

use tracing::error;

use super::document::{FileSummary, IncidentDocument, ProbeOff};
use super::error::StoreError;
use super::incident_store::{IncidentFiles, IncidentStore, Written};
use crate::capture::{Incident, Reason};
use crate::profile::timeline::{self, TimelineFormat};
use crate::profile::{self, About, Mover};
use crate::signals::Signal;
use crate::symbolize::{Name, NameStats, SymbolTable};
use crate::window::{Cut, ProfileKind};

/// Functions listed in `incident.json`: what fits a screen.
const MAX_MOVERS: usize = 20;

/// The timeline's file: of the formats the smaller one, and packed, as its viewers take it.
const TIMELINE_FILE: &str = "timeline.perfetto-trace.gz";

/// What became of an incident.
#[derive(Debug)]
pub struct Filed {
    /// Its folder, or why there is none.
    pub written: Result<Written, StoreError>,
    /// How its addresses were named.
    pub names: NameStats,
    /// The names, for a recording.
    pub symbols: SymbolTable,
    /// Profiles that broke a rule of the format: a fault of this program. They are written all the
    /// same, for most readers forgive.
    pub invalid_profiles: u64,
}

/// Names incidents and files them.
pub struct IncidentDesk {
    names: Box<dyn Name>,
    store: Arc<IncidentStore>,
    host: String,
    probes_off: Vec<ProbeOff>,
}

impl IncidentDesk {
    /// A desk that gets names from `names` and files in `store`.
    pub fn new(
        names: Box<dyn Name>,
        store: Arc<IncidentStore>,
        host: String,
        probes_off: Vec<ProbeOff>,
    ) -> Self {
        Self { names, store, host, probes_off }
    }

    /// Names an incident, makes its profiles and writes its folder.
    pub fn file(&mut self, incident: &Incident) -> Filed {
        let drawn = incident.timeline.as_ref().map(|timeline| &timeline.places);
        let cuts: Vec<&Cut> = incident.cuts.iter().map(|cut| &cut.cut).chain(drawn).collect();
        let (symbols, names) = self.names.name(&cuts);
        let mut invalid_profiles = 0;
        let mut profiles = Vec::new();
        let mut files = Vec::new();
        for cut in &incident.cuts {
            let about = About::incident(incident, &cut.cut);
            let made = profile::encode(&cut.cut, &symbols, &about);
            if let Err(violations) = profile::validate::check(&made) {
                invalid_profiles += 1;
                error!("{}: the profile breaks a rule of the format: {violations:?}", cut.stem);
            }
            let bytes = profile::write_gz(&made);
            let name = format!("{}.pb.gz", cut.stem);
            files.push(FileSummary::new(cut, &name, made.sample.len() as u64, bytes.len() as u64));
            profiles.push((name, bytes));
        }
        if let Some(timeline) = &incident.timeline {
            let about = About::incident(incident, &timeline.places).of_timeline(timeline);
            let made = timeline::write(timeline, &symbols, &about, TimelineFormat::Perfetto, true);
            if !made.violations.is_empty() {
                invalid_profiles += 1;
                error!("the timeline breaks a rule of its format: {:?}", made.violations);
            }
            let size = made.bytes.len() as u64;
            files.push(FileSummary::timeline(TIMELINE_FILE, made.events, size));
            profiles.push((TIMELINE_FILE.to_owned(), made.bytes));
        }
        let document = IncidentDocument::new(
            incident,
            &files,
            movers(incident, &symbols),
            self.probes_off.clone(),
            env!("CARGO_PKG_VERSION"),
            &self.host,
        );
        let written = self.store.write(&IncidentFiles {
            trigger_unix_ns: incident.trigger_unix_ns,
            kind: incident.kind(),
            target: incident.target.clone(),
            document,
            profiles,
        });
        Filed { written, names, symbols, invalid_profiles }
    }
}

/// What changed at the onset in the profile of the incident's own signal.
fn movers(incident: &Incident, symbols: &SymbolTable) -> Vec<Mover> {
    let kind = match incident.signal {
        None if incident.reason == Reason::Oom => ProfileKind::Memory,
        Some(Signal::Memory | Signal::Leak | Signal::Psi) => ProfileKind::Memory,
        Some(Signal::Threads) => ProfileKind::Threads,
        Some(Signal::Goroutines) => ProfileKind::Goroutines,
        Some(Signal::Cpu) | None => ProfileKind::Cpu,
    };
    let cut = |stem: String| incident.cuts.iter().find(|cut| cut.stem == stem).map(|cut| &cut.cut);
    let (Some(whole), Some(base)) =
        (cut(kind.stem().to_owned()), cut(format!("{}.base", kind.stem())))
    else {
        return Vec::new();
    };
    profile::movers(base, whole, symbols, MAX_MOVERS)
}
