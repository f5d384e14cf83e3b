//! Serve: `/metrics`, `/healthz`, `/readyz` and `POST /trigger` over HTTP.
//!
//! Everything shown is plain data that `pipeline` hands over: a [`Snapshot`] of totals every
//! second, the heartbeat and readiness in [`Status`]. What comes in is a [`TriggerRequest`], over
//! a bounded queue.
//!
//! Must not: hold up the data path, or let a client (slow, large, many, or a web page on another
//! site) do so.

mod cgroup_metrics;
mod error;
mod gather;
mod metrics;
mod process_metrics;
mod routes;
mod server;
mod snapshot;
mod status;
mod top_cgroups;
mod trigger;

pub use error::ServeError;
pub use gather::Gathered;
pub use metrics::Metrics;
pub use server::{Server, ServerState};
pub use snapshot::{
    CgroupActivity, CgroupSnapshot, Counts, MapSnapshot, ProbeSnapshot, Snapshot, StreamTotals,
};
pub use status::{ProbeState, Readiness, Status};
pub use trigger::{TRIGGER_QUEUE, TriggerAnswer, TriggerRequest, TriggerTarget};

#[cfg(test)]
mod tests;
