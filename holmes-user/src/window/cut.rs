//! A piece cut out of the window: the samples of one kind, target and span of time, not yet named.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::collect::{Comm, Nanos, Stack};
use crate::process::{Cgroup, Image};

/// A profile that is made of observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileKind {
    /// Values: samples (count), CPU time (nanoseconds).
    Cpu,
    /// Values: calls of mmap, brk and mremap (count), address space gained (bytes).
    Mmap,
    /// Values: threads created in the span (count), threads alive at its end (count).
    Threads,
}

impl ProfileKind {
    /// The stem of its file: `cpu` in `cpu.pb.gz`.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Mmap => "mmap",
            Self::Threads => "threads",
        }
    }

    /// Type and unit of its two values, as pprof names them.
    pub const fn sample_types(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Cpu => [("samples", "count"), ("cpu", "nanoseconds")],
            Self::Mmap => [("calls", "count"), ("mapped", "bytes")],
            Self::Threads => [("created", "count"), ("alive", "count")],
        }
    }
}

/// Whose stack it is: what becomes a sample's labels.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// The thread's name.
    pub comm: Comm,
    /// Its cgroup.
    pub cgroup: Arc<Cgroup>,
    /// What the process had mapped.
    pub image: Option<Arc<Image>>,
    /// Whether it is the recorder itself.
    pub recorder: bool,
}

/// All observations of one owner with one stack.
#[derive(Clone, Debug)]
pub struct CutSample {
    /// Whose.
    pub owner: Arc<Owner>,
    /// Where.
    pub stack: Arc<Stack>,
    /// The two values of [`ProfileKind::sample_types`].
    pub values: [i64; 2],
}

/// The samples of one kind in a span of time.
#[derive(Clone, Debug)]
pub struct Cut {
    /// What the values mean.
    pub kind: ProfileKind,
    /// First moment.
    pub from: Nanos,
    /// The moment behind the last.
    pub to: Nanos,
    /// In a fixed order: the same observations make the same cut, whatever the hash seeds.
    pub samples: Vec<CutSample>,
}

impl Cut {
    /// The sum of both values over all samples.
    pub fn totals(&self) -> [i64; 2] {
        self.samples.iter().fold([0, 0], |sum, sample| {
            [sum[0].saturating_add(sample.values[0]), sum[1].saturating_add(sample.values[1])]
        })
    }
}
