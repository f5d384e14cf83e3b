//! Families of metrics: how one is registered, and how counters follow totals.
//!
//! Must not: name a metric.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Registry};

use super::snapshot::StreamTotals;

/// Taken, reported and lost of one kind of record.
#[derive(Debug)]
pub(super) struct StreamFamilies {
    pub(super) taken: IntCounterVec,
    pub(super) reported: IntCounterVec,
    pub(super) lost: IntCounterVec,
}

impl StreamFamilies {
    pub(super) fn raise(&self, labels: &[&str], totals: &StreamTotals) {
        raise(&self.taken.with_label_values(labels), totals.taken);
        raise(&self.reported.with_label_values(labels), totals.reported);
        for (cause, &total) in &totals.lost {
            let labels = [labels, &[cause]].concat();
            raise(&self.lost.with_label_values(&labels), total);
        }
    }
}

/// Brings a counter up to a total; never down.
pub(super) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
