//! A piece cut out of the window: the samples of one kind, target and span of time, not yet named.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::collect::{Comm, Memory, Nanos, Stack, WaitCause};
use crate::process::{Cgroup, Image};

/// Values that a sample has at the most, whatever its kind.
pub const MAX_VALUES: usize = 4;

/// The values of a sample, in the order of [`ProfileKind::sample_types`]; 0 behind those.
pub type Values = [i64; MAX_VALUES];

/// The values of a kind that has two.
pub const fn pair([first, second]: [i64; 2]) -> Values {
    [first, second, 0, 0]
}

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
    /// Values: pages touched in the span (count, bytes), and pages in use at its end, whenever they
    /// were touched (count, bytes).
    Memory,
    /// Values: waits that began in the span (count), and the time in it that threads waited, whenever they
    /// began to (nanoseconds).
    Blocked,
    /// Values: allocations and their bytes, made in the span and in use at its end.
    Allocations,
    /// Values: goroutines (count).
    Goroutines,
    /// Values: allocations and their bytes, since the program began and in use at its last collections, as
    /// a Go program has sampled them itself.
    GoHeap,
}

impl ProfileKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Mmap, Self::Threads, Self::Memory, Self::Blocked];

    /// The stem of its file: `cpu` in `cpu.pb.gz`.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Mmap => "mmap",
            Self::Threads => "threads",
            Self::Memory => "memory",
            Self::Blocked => "blocked",
            Self::Allocations => "allocations",
            Self::Goroutines => "goroutines",
            Self::GoHeap => "goheap",
        }
    }

    /// Type and unit of its values, as pprof names them; at most [`MAX_VALUES`].
    pub const fn sample_types(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Cpu => &[("samples", "count"), ("cpu", "nanoseconds")],
            Self::Mmap => &[("calls", "count"), ("mapped", "bytes")],
            Self::Threads => &[("created", "count"), ("alive", "count")],
            Self::Blocked => &[("blockings", "count"), ("delay", "nanoseconds")],
            Self::Goroutines => &[("goroutine", "count")],
            Self::Memory | Self::Allocations | Self::GoHeap => &[
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes"),
            ],
        }
    }

    /// The values of a sample that this kind has.
    pub fn values(self, values: &Values) -> &[i64] {
        &values[..self.sample_types().len()]
    }
}

/// Whose stack it is: what becomes a sample's labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What tells samples of one owner and stack apart, by kind of profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// What kind of memory was touched.
    Memory(Memory),
    /// What was waited for.
    Wait {
        /// In a word.
        cause: WaitCause,
        /// The address of the futex; 0 if it is none.
        lock: u64,
        /// The thread that holds it; 0 if nobody knows.
        holder: u32,
        /// For how long, in nanoseconds, if that is longer than the profile: at least so long, by its first
        /// digit, so that threads that began together are together. 0 if it is not.
        blocked_for: u64,
    },
    /// How large the allocations were, in bytes each.
    Size(u64),
}

impl Detail {
    /// Of a wait that is over: nobody asks any more who held what.
    pub const fn over(cause: WaitCause) -> Self {
        Self::Wait { cause, lock: 0, holder: 0, blocked_for: 0 }
    }
}

/// What is known of a sample beside whose it is: names, and text that a target may have chosen.
pub type Labels = Vec<(Cow<'static, str>, Arc<str>)>;

/// All observations of one owner with one stack.
#[derive(Clone, Debug)]
pub struct CutSample {
    /// Whose.
    pub owner: Arc<Owner>,
    /// Where.
    pub stack: Arc<Stack>,
    /// What else tells it from others of the same owner and stack.
    pub detail: Detail,
    /// What else is known of it, by name: of goroutines their state.
    pub labels: Labels,
    /// Its values.
    pub values: Values,
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
    /// The sum of each value over all samples.
    pub fn totals(&self) -> Values {
        self.samples.iter().fold(Values::default(), |total, sample| sum(total, sample.values))
    }
}

/// The sums of values of one kind; at the type's ends they stay there.
pub(super) fn sum<const COUNT: usize>(left: [i64; COUNT], right: [i64; COUNT]) -> [i64; COUNT] {
    std::array::from_fn(|at| left[at].saturating_add(right[at]))
}
