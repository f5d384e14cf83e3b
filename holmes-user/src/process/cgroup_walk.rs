//! The cgroups below a directory, level by level.
//!
//! Must not: follow links or leave the hierarchy; bounded in number and depth, as whoever may make
//! cgroups may make many.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use holmes_common::limits::MAX_CGROUP_DEPTH;

use crate::kernel::cgroupfs::PROCS;

/// A cgroup that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its inode number.
    pub(crate) id: u64,
    /// Its path from the hierarchy's root.
    pub(crate) path: String,
    /// Where its files are.
    pub(crate) directory: PathBuf,
}

/// What a walk has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    /// The cgroups, every one after its parent, and the upper levels before the lower ones.
    pub(crate) found: Vec<Found>,
    /// Cgroups known to exist that were left out because of a bound, without those below them.
    pub(crate) left_out: u64,
}

/// The cgroup at `directory`, which has this `path`, and at most `max` in all with those below it.
///
/// # Errors
/// When the first directory cannot be read. One below that cannot (it has just been removed, most
/// often) only hides what is below itself.
pub(crate) fn walk(directory: &Path, path: &str, max: usize) -> io::Result<Walk> {
    let id = fs::metadata(directory)?.ino();
    let mut walk = Walk::default();
    let first = Found { id, path: path.to_owned(), directory: directory.to_owned() };
    let mut open = VecDeque::from([(first, 0)]);
    while let Some((cgroup, depth)) = open.pop_front() {
        match fs::read_dir(&cgroup.directory) {
            Err(error) if depth == 0 => return Err(error),
            // Removed since its parent was read.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => {}
            Ok(entries) => {
                // d_type and d_ino spare a system call per file; in a cgroup file system both are
                // always filled in.
                let children = entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                for child in children {
                    if depth >= MAX_CGROUP_DEPTH || walk.found.len() + 1 + open.len() >= max {
                        walk.left_out += 1;
                        continue;
                    }
                    let name = child.file_name();
                    let name = name.to_string_lossy();
                    let path = format!("{}/{name}", cgroup.path.trim_end_matches('/'));
                    open.push_back((
                        Found { id: child.ino(), path, directory: child.path() },
                        depth + 1,
                    ));
                }
            }
        }
        walk.found.push(cgroup);
    }
    Ok(walk)
}

/// The processes in the cgroup at `directory` and below it, the first so many.
pub(crate) fn members(directory: &Path, at_most: usize) -> Vec<u32> {
    // A cgroup with fewer processes than that has no more cgroups that hold any.
    let found = walk(directory, "/", at_most).map(|walk| walk.found).unwrap_or_default();
    let mut members = Vec::new();
    for cgroup in found {
        // A threaded cgroup does not tell; one that is gone has none.
        let text = fs::read_to_string(cgroup.directory.join(PROCS)).unwrap_or_default();
        members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        if members.len() >= at_most {
            break;
        }
    }
    members.truncate(at_most);
    members
}

/// Whether the cgroup has tasks of its own, not counting those of cgroups below it.
pub(crate) fn has_tasks(directory: &Path) -> bool {
    let has_line = |file: &str| -> io::Result<bool> {
        Ok(fs::File::open(directory.join(file))?.read(&mut [0; 16])? > 0)
    };
    // A threaded v2 cgroup answers EOPNOTSUPP for its processes, but not for its threads. One
    // that can be asked neither is gone.
    has_line("cgroup.procs").or_else(|_| has_line("cgroup.threads")).unwrap_or(false)
}
