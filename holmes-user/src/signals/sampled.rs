//! CPU time as the probes have sampled it: for targets whose own kernel counter is missing.
//!
//! Must not: do I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::reading::Target;
use crate::collect::CgroupId;
use crate::process::Cgroup;

/// Samples of each cgroup at the last two readings.
#[derive(Clone, Debug, Default)]
pub struct SampledCpu {
    period_ns: u64,
    last: BTreeMap<CgroupId, u64>,
    gained: Vec<(Arc<Cgroup>, u64)>,
}

impl SampledCpu {
    /// One sample stands for this much CPU time.
    pub fn new(period_ns: u64) -> Self {
        Self { period_ns, ..Self::default() }
    }

    /// Takes the totals of samples of all cgroups.
    pub fn update(&mut self, totals: impl IntoIterator<Item = (Arc<Cgroup>, u64)>) {
        let mut now = BTreeMap::new();
        self.gained.clear();
        for (cgroup, samples) in totals {
            let before = self.last.get(&cgroup.id).copied().unwrap_or(0);
            now.insert(cgroup.id, samples);
            self.gained.push((cgroup, samples.saturating_sub(before)));
        }
        self.last = now;
    }

    /// The CPU time of a cgroup and its descendants between the last two updates; `None` for other
    /// targets, whose time the kernel always knows.
    pub fn since_last(&self, target: &Target) -> Option<Duration> {
        let Target::Cgroup { path, .. } = target else { return None };
        let samples: u64 = self
            .gained
            .iter()
            .filter(|(cgroup, _)| cgroup.is_within(path))
            .map(|(_, samples)| samples)
            .sum();
        Some(Duration::from_nanos(samples.saturating_mul(self.period_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(id: u64, path: &str) -> Arc<Cgroup> {
        Arc::new(Cgroup { id: CgroupId(id), path: path.to_owned(), container: None })
    }

    #[test]
    fn a_target_gets_its_own_time_and_its_descendants() {
        let (app, worker, other) = (cgroup(1, "/app"), cgroup(2, "/app/worker"), cgroup(3, "/b"));
        let mut sampled = SampledCpu::new(1000);
        sampled.update([(app.clone(), 10), (other.clone(), 7)]);
        sampled.update([(app, 12), (worker, 3), (other, 50)]);
        let target = |path: &str| Target::Cgroup { path: path.to_owned(), container: None };
        assert_eq!(sampled.since_last(&target("/app")), Some(Duration::from_nanos(5000)));
        assert_eq!(sampled.since_last(&target("/nobody")), Some(Duration::ZERO));
        assert_eq!(sampled.since_last(&Target::Host), None);
    }
}
