//! Made-up observations, for the tests of this stage and of those behind it.
//!
//! Must not: be built outside tests.

use std::sync::Arc;

use crate::collect::{CgroupId, Comm, Nanos, Observation, Stack, What};
use crate::process::{Attributed, Cgroup, Image, Mapping, Object, ObjectKind};

/// A sample of 49 Hz, rounded.
pub(crate) const PERIOD_NS: u64 = 20_000_000;

/// A process of one program in one cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) tgid: u32,
    pub(crate) cgroup: Arc<Cgroup>,
    pub(crate) image: Option<Arc<Image>>,
}

impl Process {
    pub(crate) fn new(tgid: u32, cgroup: &str) -> Self {
        let id = cgroup.bytes().fold(7, |id, byte| id * 31 % 1_000_003 + u64::from(byte));
        let object = Object {
            number: tgid,
            kind: ObjectKind::File,
            path: format!("/bin/program-{tgid}"),
            build_id: String::new(),
            file: None,
        };
        let mapping = Mapping { start: 0x1000, end: 0x9000, offset: 0, object: Arc::new(object) };
        let image = Image {
            number: tgid,
            tgid,
            start_time: 1,
            exe: format!("/bin/program-{tgid}"),
            mappings: vec![mapping],
        };
        Self {
            tgid,
            cgroup: Arc::new(Cgroup { id: CgroupId(id), path: cgroup.to_owned(), container: None }),
            image: Some(Arc::new(image)),
        }
    }

    /// Something that the process's thread `tid` did, `ms` milliseconds after the clock's zero.
    pub(crate) fn does(&self, tid: u32, ms: u64, stack: &[u64], what: What) -> Attributed {
        Attributed {
            observation: Observation {
                walk: Default::default(),
                time: Nanos(ms * 1_000_000),
                tgid: self.tgid,
                tid,
                cgroup: self.cgroup.id,
                comm: Comm::from(format!("comm-{}", self.tgid)),
                cpu: 0,
                flags: 0,
                stack: Arc::new(Stack { user: stack.into(), kernel: Box::default() }),
                what,
            },
            image: self.image.clone(),
            cgroup: Arc::clone(&self.cgroup),
        }
    }

    /// A CPU sample.
    pub(crate) fn runs(&self, ms: u64, stack: &[u64]) -> Attributed {
        self.does(self.tgid, ms, stack, What::CpuSample)
    }
}
