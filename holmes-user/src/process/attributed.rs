//! An observation with its owner.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::image::Image;
use crate::collect::{CgroupId, Observation};

/// The container a cgroup belongs to, as far as its path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Container {
    /// The runtime's id: 64 hexadecimal digits.
    pub id: String,
    /// The pod's uid, with dashes, under Kubernetes.
    pub pod_uid: Option<String>,
}

/// A cgroup of the watched hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its inode number.
    pub id: CgroupId,
    /// Its path from the hierarchy's root, `/` for the root itself. Empty where the cgroup was
    /// gone before its path could be read.
    pub path: String,
    /// The container, if the path names one.
    pub container: Option<Container>,
}

impl Cgroup {
    /// Whether this cgroup is the one at `path` or a descendant of it.
    pub fn is_within(&self, path: &str) -> bool {
        is_within(&self.path, path)
    }
}

/// Whether the cgroup at `path` is the one at `above` or a descendant of it.
pub fn is_within(path: &str, above: &str) -> bool {
    above == "/"
        || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An observation, and whose it is.
#[derive(Clone, Debug)]
pub struct Attributed {
    /// What was observed.
    pub observation: Observation,
    /// What the process had mapped; `None` for kernel threads and for processes that were gone
    /// before their mappings could be read.
    pub image: Option<Arc<Image>>,
    /// The task's cgroup.
    pub cgroup: Arc<Cgroup>,
}
