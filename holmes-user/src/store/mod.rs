//! Store: puts an incident's folder on disk, whole or not at all, and retires old ones.
//!
//! An incident is written to a temporary sibling folder, flushed, and renamed: a reader sees a
//! whole incident or none. What a crash leaves behind is removed when the store is next opened.
//!
//! Must not: decide what is worth keeping beyond [`crate::settings::Retention`], make profiles, or
//! delete anything in the dump folder that it did not write.

mod desk;
mod document;
mod error;
mod incident_store;
mod memory_document;
mod name;
mod retention;
mod staging;

pub use desk::{Filed, IncidentDesk};
pub use document::{
    ContainerDocument, FileDocument, FileSummary, IncidentDocument, ProbeOff, ReasonDocument,
    RecorderDocument, RuleDocument, SCHEMA_VERSION, SampleType, SamplesDocument, TargetDocument,
    WindowDocument,
};
pub use error::StoreError;
pub use incident_store::{DOCUMENT_FILE, IncidentFiles, IncidentStore, StoreCounts, Written};
pub use memory_document::{GrownDocument, MemoryDocument, VictimDocument};
pub use name::folder_name;
