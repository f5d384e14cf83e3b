//! The window's state in numbers, for `/metrics` and for the closing line.
//!
//! Must not: hold state; the ring fills it in.

use super::resident::ResidentStats;
use super::tally::{PerKind, SpanTally};
use super::threads::ThreadStats;
use super::timeline::TimelineStats;
use super::waits::WaitStats;

/// What the window holds and has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowStats {
    /// Memory of stacks, owners, buckets and ledgers, in bytes.
    pub bytes: usize,
    /// Its cap.
    pub max_bytes: usize,
    /// Distinct stacks.
    pub stacks: usize,
    /// Their bound.
    pub max_stacks: usize,
    /// Distinct owners.
    pub owners: usize,
    /// Seconds with a bucket.
    pub buckets: usize,
    /// How far back the window reaches, in seconds.
    pub span_seconds: u64,
    /// Buckets that fell out early to stay under the cap.
    pub evicted_buckets: u64,
    /// Observations since the start, each by what became of it when it came: these never fall.
    pub observations: SpanTally,
    /// How many of those held fell out early, to stay under the memory cap.
    pub evicted_later: PerKind,
    /// The thread ledger.
    pub threads: ThreadStats,
    /// The ledger of waits.
    pub waits: WaitStats,
    /// The timeline's ring.
    pub timeline: TimelineStats,
    /// The residency ledger.
    pub residents: ResidentStats,
}
