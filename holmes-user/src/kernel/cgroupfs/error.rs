//! What can be wrong with a cgroup path, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::Hierarchy;

/// Why a cgroup cannot be watched.
#[derive(Debug, Error)]
pub enum CgroupfsError {
    /// The list of mounts cannot be read.
    #[error("cannot read {path} to find the cgroup mounts: is /proc mounted?")]
    Mountinfo {
        /// The list.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing to look in.
    #[error(
        "no cgroup file system is mounted, so {path:?} cannot be found: mount one \
         (mount -t cgroup2 none /sys/fs/cgroup), or watch by --pid or the whole host"
    )]
    NoMount {
        /// What was asked for.
        path: PathBuf,
    },
    /// There is no such cgroup.
    #[error(
        "the cgroup {path:?} does not exist below {}{}",
        .looked_in.join(", "),
        hint(.near)
    )]
    NotFound {
        /// What was asked for.
        path: PathBuf,
        /// The mount points that were searched.
        looked_in: Vec<String>,
        /// Cgroups of a similar name.
        near: Vec<String>,
    },
    /// The path leads elsewhere.
    #[error(
        "{path:?} is not a cgroup: give a directory below {}, or a path relative to one of them",
        .mounts.join(", ")
    )]
    NotACgroup {
        /// What was asked for.
        path: PathBuf,
        /// The mount points of the hierarchies.
        mounts: Vec<String>,
    },
    /// The path lies in a hierarchy without a controller.
    #[error(
        "{path:?} lies in the v1 hierarchy {name}, which has no controller and cannot be followed \
         by probes: give the same cgroup below {}",
        .mounts.join(", ")
    )]
    NamedHierarchy {
        /// What was asked for.
        path: PathBuf,
        /// The hierarchy.
        name: String,
        /// The mount points of the others.
        mounts: Vec<String>,
    },
    /// Cgroups of different hierarchies.
    #[error(
        "the cgroups {first:?} ({first_in}) and {second:?} ({second_in}) lie in different \
         hierarchies: give absolute paths below one mount point"
    )]
    SeveralHierarchies {
        /// One of them.
        first: PathBuf,
        /// Its hierarchy.
        first_in: Hierarchy,
        /// The other.
        second: PathBuf,
        /// Its hierarchy.
        second_in: Hierarchy,
    },
    /// The file system refuses.
    #[error("cannot look at the cgroup {path:?}: check its permissions, or run as root")]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn hint(near: &[String]) -> String {
    if near.is_empty() {
        "; list them with: find /sys/fs/cgroup -type d".to_owned()
    } else {
        format!("; near it: {}", near.join(", "))
    }
}
