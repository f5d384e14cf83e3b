//! The index on made-up trees in a temporary folder.

use std::path::Path;

use holmes_common::limits::MAX_CGROUP_DEPTH;
use tempfile::TempDir;

use super::*;
use crate::kernel::cgroupfs::Hierarchy;

const SECOND: Duration = Duration::from_secs(1);

struct Tree {
    folder: TempDir,
    now: Nanos,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { folder: TempDir::new().unwrap(), now: Nanos::from_secs(100) };
        tree.cgroup("", "");
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn cgroup(&self, path: &str, procs: &str) -> CgroupId {
        fs::create_dir_all(self.path(path)).unwrap();
        fs::write(self.path(path).join("cgroup.procs"), procs).unwrap();
        CgroupId(fs::metadata(self.path(path)).unwrap().ino())
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.path(path)).unwrap();
    }

    fn mount(&self, root: &str) -> Mount {
        Mount {
            hierarchy: Hierarchy::Unified,
            point: self.folder.path().to_owned(),
            root: root.to_owned(),
            controllers: Vec::new(),
        }
    }

    fn index(&self) -> CgroupIndex {
        CgroupIndex::new(&self.mount("/"))
    }

    fn later(&mut self) -> Nanos {
        self.now = self.now.plus(SECOND);
        self.now
    }
}

fn paths(cgroups: &[Arc<Cgroup>]) -> Vec<&str> {
    cgroups.iter().map(|cgroup| cgroup.path.as_str()).collect()
}

#[test]
fn ids_become_paths_and_containers() {
    let mut tree = Tree::new();
    let container = "ab".repeat(32);
    let id = tree.cgroup(&format!("docker/{container}"), "1\n");
    let root = CgroupId(fs::metadata(tree.folder.path()).unwrap().ino());
    let mut index = tree.index();
    let cgroup = index.resolve(id, tree.later());
    assert_eq!(cgroup.path, format!("/docker/{container}"));
    assert_eq!(cgroup.container, Some(Container { id: container, pod_uid: None }));
    assert_eq!(index.resolve(root, tree.now).path, "/");
    assert!(Arc::ptr_eq(&cgroup, &index.resolve(id, tree.later())));
}

#[test]
fn paths_count_from_the_hierarchys_root_where_only_a_part_is_seen() {
    let mut tree = Tree::new();
    let id = tree.cgroup("app", "");
    let root = CgroupId(fs::metadata(tree.folder.path()).unwrap().ino());
    let mut index = CgroupIndex::new(&tree.mount("/docker/ab"));
    assert_eq!(index.resolve(id, tree.later()).path, "/docker/ab/app");
    assert_eq!(index.resolve(root, tree.now).path, "/docker/ab");
}

#[test]
fn an_unknown_id_is_looked_for_at_most_once_a_second() {
    let tree = Tree::new();
    let mut index = tree.index();
    index.refresh(tree.now);
    let id = tree.cgroup("late", "");
    assert_eq!(index.resolve(id, tree.now.plus(SECOND / 2)).path, "");
    assert_eq!(index.resolve(id, tree.now.plus(SECOND)).path, "/late");
}

#[test]
fn an_id_that_is_not_there_costs_one_scan() {
    let mut tree = Tree::new();
    let mut index = tree.index();
    let nowhere = CgroupId(u64::MAX);
    assert_eq!(index.resolve(nowhere, tree.later()).path, "");
    index.resolve(nowhere, tree.later());
    // The clock of the scans still stands at the first one.
    assert_eq!(index.scanned, Some(tree.now.minus(SECOND)));
    index.resolve(CgroupId(0), tree.later());
    assert_eq!(index.scanned, Some(tree.now.minus(SECOND * 2)));
    for number in 1..3 * MAX_KEPT as u64 {
        index.resolve(CgroupId(u64::MAX - number), tree.later());
    }
    assert!(index.unknown.len() <= MAX_KEPT);
}

#[test]
fn a_removed_cgroup_keeps_its_path_for_a_while_and_is_reported_once() {
    let mut tree = Tree::new();
    let id = tree.cgroup("app", "1\n");
    let mut index = tree.index();
    index.refresh(tree.later());
    tree.remove("app");
    index.refresh(tree.later());
    assert_eq!(index.take_removed(), [id]);
    assert_eq!(index.take_removed(), []);
    assert_eq!(index.resolve(id, tree.now).path, "/app");
    assert_eq!(index.populated(), []);
    index.refresh(tree.now.plus(KEEP_REMOVED));
    assert_eq!(index.resolve(id, tree.now.plus(KEEP_REMOVED)).path, "");
}

#[test]
fn only_cgroups_with_tasks_of_their_own_are_populated() {
    let mut tree = Tree::new();
    tree.cgroup("b/inner", "7\n");
    tree.cgroup("b", "");
    tree.cgroup("a", "8\n9\n");
    let mut index = tree.index();
    index.refresh(tree.later());
    assert_eq!(paths(&index.populated()), ["/a", "/b/inner"]);
    tree.cgroup("a", "");
    index.refresh(tree.later());
    assert_eq!(paths(&index.populated()), ["/b/inner"]);
    assert_eq!(index.take_removed(), []);
}

#[test]
fn a_cgroup_whose_processes_are_not_told_is_asked_for_threads() {
    let mut tree = Tree::new();
    tree.cgroup("threaded", "");
    // A folder cannot be read as a file, as the real one refuses to be read.
    fs::remove_file(tree.path("threaded/cgroup.procs")).unwrap();
    fs::write(tree.path("threaded/cgroup.threads"), "12\n").unwrap();
    let mut index = tree.index();
    index.refresh(tree.later());
    assert_eq!(paths(&index.populated()), ["/threaded"]);
}

#[test]
fn only_the_watched_part_is_indexed() {
    let mut tree = Tree::new();
    let inside = tree.cgroup("app/web", "1\n");
    let outside = tree.cgroup("apple", "2\n");
    let mut index = CgroupIndex::within(&tree.mount("/"), ["/app", "/missing"]);
    assert_eq!(index.resolve(inside, tree.later()).path, "/app/web");
    assert_eq!(index.resolve(outside, tree.later()).path, "");
    assert_eq!(index.failed_scans(), 0);
}

#[test]
fn links_are_not_followed() {
    let mut tree = Tree::new();
    tree.cgroup("app", "1\n");
    std::os::unix::fs::symlink(tree.path(""), tree.path("app/loop")).unwrap();
    let mut index = tree.index();
    index.refresh(tree.later());
    assert_eq!(index.len(), 2);
}

#[test]
fn number_and_depth_are_bounded_and_what_is_left_out_is_counted() {
    let mut tree = Tree::new();
    let deep: String = "d/".repeat(MAX_CGROUP_DEPTH + 3);
    tree.cgroup(&deep, "");
    let mut index = tree.index();
    index.refresh(tree.later());
    assert_eq!((index.len(), index.left_out()), (MAX_CGROUP_DEPTH + 1, 1));

    let walk = |max| walk(Path::new(tree.folder.path()), "/", max).unwrap();
    let few = walk(5);
    assert_eq!((few.found.len(), few.left_out), (5, 1));
    assert_eq!(few.found[4].path, "/d/d/d/d");
}

#[test]
fn what_a_failed_scan_does_not_show_is_not_taken_for_removed() {
    let mut tree = Tree::new();
    let id = tree.cgroup("app", "1\n");
    let mut index = tree.index();
    index.refresh(tree.later());
    // A file in the root's place cannot be listed: the scan fails, and nothing is known to exist.
    let moved = tree.folder.path().with_extension("moved");
    fs::rename(tree.folder.path(), &moved).unwrap();
    fs::write(tree.folder.path(), "").unwrap();
    index.refresh(tree.later());
    assert_eq!(index.failed_scans(), 1);
    assert_eq!(index.take_removed(), []);
    assert_eq!(index.resolve(id, tree.now).path, "/app");
    fs::remove_file(tree.folder.path()).unwrap();
    fs::rename(&moved, tree.folder.path()).unwrap();
}

#[test]
fn what_lived_between_two_scans_is_reported_to_be_forgotten() {
    let mut tree = Tree::new();
    let mut index = tree.index();
    index.refresh(tree.now);
    let short = CgroupId(u64::MAX);
    // The scan of this second was made before anybody asked.
    assert_eq!(index.resolve(short, tree.now).path, "");
    assert_eq!(index.take_removed(), []);
    let now = tree.later();
    index.refresh(now);
    assert_eq!(index.take_removed(), [short]);
    let now = tree.later();
    assert_eq!(index.resolve(short, now).path, "");
    assert_eq!(index.take_removed(), []);
}
