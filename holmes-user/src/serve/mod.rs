//! Serve: `/metrics`, `/healthz`, `/readyz` and `POST /trigger` over HTTP.
//!
//! Everything shown is plain data that `pipeline` hands over: a [`Snapshot`] of totals
//! when somebody looks, the heartbeat and readiness in [`Status`]. What comes in is a
//! [`TriggerRequest`] or a [`RefreshRequest`], over bounded queues.
//!
//! Must not: hold up the data path, or let a client (slow, large, many, or a web page on another
//! site) do so.

mod cgroup_metrics;
mod error;
mod families;
mod gather;
mod metrics;
mod name_metrics;
mod process_metrics;
mod refresh;
mod routes;
mod server;
mod snapshot;
mod status;
mod top_cgroups;
mod trigger;

pub use error::ServeError;
pub use gather::Gathered;
pub use metrics::Metrics;
pub use refresh::{REFRESH_QUEUE, RefreshRequest};
pub use server::{Server, ServerState};
pub use snapshot::{
    CgroupActivity, CgroupSnapshot, Counts, MapSnapshot, ProbeSnapshot, Snapshot, StreamTotals,
};
pub use status::{ProbeState, Readiness, Status};
pub use trigger::{TRIGGER_QUEUE, TriggerAnswer, TriggerRequest, TriggerTarget};

#[cfg(test)]
mod tests;
