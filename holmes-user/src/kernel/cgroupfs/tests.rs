//! Layouts on made-up mounts in a temporary folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A folder whose sub-folders stand for mounts.
struct Tree {
    folder: TempDir,
    mountinfo: String,
}

impl Tree {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), mountinfo: String::new() }
    }

    fn point(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn cgroup(&self, path: &str) -> PathBuf {
        let directory = self.point(path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(PROCS), "").unwrap();
        directory
    }

    /// Mounts `point` with `kind` = the part behind the hyphen, seen from `root`.
    fn mount(mut self, point: &str, root: &str, kind: &str) -> Self {
        let directory = self.cgroup(point);
        self.mountinfo += &format!("1 1 0:1 {root} {} rw shared:1 - {kind}\n", directory.display());
        self
    }

    fn unified(self, point: &str, controllers: &str) -> Self {
        let tree = self.mount(point, "/", "cgroup2 cgroup2 rw");
        fs::write(tree.point(point).join("cgroup.controllers"), controllers).unwrap();
        tree
    }

    fn layout(&self) -> Layout {
        Layout::from_mountinfo(&self.mountinfo)
    }

    fn locate(&self, path: impl AsRef<Path>) -> Result<Located, CgroupfsError> {
        self.layout().locate(path.as_ref())
    }
}

fn hybrid() -> Tree {
    Tree::new()
        .mount("cpu", "/", "cgroup cgroup rw,cpu")
        .mount("pids", "/", "cgroup cgroup rw,pids")
        .mount("memory", "/", "cgroup cgroup rw,memory")
        .mount("systemd", "/", "cgroup cgroup rw,xattr,name=systemd")
        .unified("unified", "")
}

fn v1(controller: &'static str) -> Hierarchy {
    Hierarchy::V1 { controller }
}

#[test]
fn the_watched_hierarchy_is_the_one_with_the_containers() {
    let cases = [
        ("v2", Tree::new().unified("u", "cpu io memory pids\n"), Some(Hierarchy::Unified)),
        ("v2 without controllers", Tree::new().unified("u", ""), Some(Hierarchy::Unified)),
        ("hybrid", hybrid(), Some(v1("memory"))),
        ("hybrid, controllers in v2", hybrid().unified("v", ""), Some(v1("memory"))),
        (
            "memory in v2, freezer in v1",
            Tree::new().mount("f", "/", "cgroup c rw,freezer").unified("u", "memory"),
            Some(Hierarchy::Unified),
        ),
        ("v1", Tree::new().mount("p", "/", "cgroup c rw,pids"), Some(v1("pids"))),
        (
            "v1 without memory",
            Tree::new().mount("p", "/", "cgroup c rw,pids").mount(
                "c",
                "/",
                "cgroup c rw,cpuacct,cpu",
            ),
            Some(v1("cpu")),
        ),
        ("named only", Tree::new().mount("s", "/", "cgroup c rw,name=systemd"), None),
        ("nothing", Tree::new(), None),
    ];
    for (name, tree, expect) in cases {
        assert_eq!(tree.layout().watched().map(|mount| mount.hierarchy), expect, "{name}");
    }
}

#[test]
fn a_mount_that_something_else_hides_is_left_out() {
    let tree = hybrid();
    fs::remove_file(tree.point("memory").join(PROCS)).unwrap();
    assert_eq!(tree.layout().watched().map(|mount| mount.hierarchy), Some(v1("cpu")));
}

#[test]
fn the_mount_that_shows_most_of_the_tree_wins() {
    let own_and_host = Tree::new()
        .mount("own", "/", "cgroup2 c rw")
        .mount("host", "/../../..", "cgroup2 c rw")
        .mount("part", "/docker/ab", "cgroup2 c rw");
    let layout = own_and_host.layout();
    let mount = layout.unified().unwrap();
    assert_eq!((mount.point.clone(), mount.root.as_str()), (own_and_host.point("host"), "/"));
}

#[test]
fn controllers_mounted_together_are_one_hierarchy() {
    let tree = Tree::new().mount("cpu,cpuacct", "/", "cgroup c rw,cpu,cpuacct");
    let layout = tree.layout();
    assert_eq!(layout.v1("cpuacct"), layout.v1("cpu"));
    assert_eq!(layout.mounts().count(), 1);
}

#[test]
fn absolute_and_relative_paths_mean_the_same_cgroup() {
    let tree = hybrid();
    let app = tree.cgroup("memory/app/web");
    let expect = Located {
        hierarchy: v1("memory"),
        mount: tree.point("memory"),
        path: "/app/web".into(),
        id: fs::metadata(&app).unwrap().ino(),
    };
    for path in ["/app/web", "app/web", "app/./web/", "app/../app/web", app.to_str().unwrap()] {
        assert_eq!(tree.locate(path).unwrap(), expect, "{path}");
    }
}

#[test]
fn a_relative_path_is_looked_for_in_the_unified_hierarchy_first() {
    let tree = hybrid();
    for mount in ["pids", "cpu", "memory", "unified"] {
        tree.cgroup(&format!("{mount}/app"));
    }
    assert_eq!(tree.locate("app").unwrap().hierarchy, Hierarchy::Unified);
    fs::remove_dir_all(tree.point("unified/app")).unwrap();
    assert_eq!(tree.locate("app").unwrap().hierarchy, v1("memory"));
    fs::remove_dir_all(tree.point("memory/app")).unwrap();
    assert_eq!(tree.locate("app").unwrap().hierarchy, v1("cpu"));
}

#[test]
fn the_root_of_a_mount_is_a_cgroup() {
    let tree = hybrid();
    assert_eq!(tree.locate(tree.point("memory")).unwrap().path, "/");
    assert_eq!(tree.locate("/").unwrap().hierarchy, Hierarchy::Unified);
}

#[test]
fn links_to_a_mount_are_followed() {
    let tree = Tree::new().mount("cpu,cpuacct", "/", "cgroup c rw,cpu,cpuacct");
    tree.cgroup("cpu,cpuacct/app");
    std::os::unix::fs::symlink("cpu,cpuacct", tree.point("cpuacct")).unwrap();
    assert_eq!(tree.locate(tree.point("cpuacct/app")).unwrap().path, "/app");
}

#[test]
fn where_only_a_part_of_the_tree_is_seen_paths_still_count_from_its_root() {
    let tree = Tree::new().mount("memory", "/docker/ab", "cgroup c rw,memory");
    tree.cgroup("memory/app");
    for path in ["/app", "app", "/docker/ab/app"] {
        assert_eq!(tree.locate(path).unwrap().path, "/docker/ab/app", "{path}");
    }
    let layout = tree.layout();
    let mount = layout.v1("memory").unwrap();
    assert_eq!(mount.directory("/docker/ab"), Some(tree.point("memory").join("")));
    assert_eq!(mount.directory("/docker/abc/app"), None);
    assert_eq!(mount.directory("/docker/ab/../../etc"), None);
}

#[test]
fn a_wrong_path_says_what_to_do() {
    let tree = hybrid();
    tree.cgroup("memory/payments");
    tree.cgroup("systemd/payments");
    fs::create_dir(tree.point("plain")).unwrap();
    let cases = [
        ("/payment".into(), "near it: ", "memory/payments"),
        (tree.point("payments"), "near it: ", "memory/payments"),
        (tree.point("memory/paymnets"), "near it: ", "memory/payments"),
        ("/nothing-like-it".into(), "does not exist", "find /sys/fs/cgroup"),
        (tree.point("plain"), "is not a cgroup", "memory"),
        (tree.point("systemd/payments"), "name=systemd", "memory"),
        ("../plain".into(), "does not exist", "find /sys/fs/cgroup"),
    ];
    for (path, expect, next) in cases {
        let message = tree.locate(&path).unwrap_err().to_string();
        assert!(message.contains(expect) && message.contains(next), "{path:?}: {message}");
    }
    let message = Tree::new().locate("/app").unwrap_err().to_string();
    assert!(message.contains("mount -t cgroup2"), "{message}");
}

#[test]
fn cgroups_of_several_hierarchies_are_refused_together() {
    let tree = hybrid();
    let one = tree.cgroup("memory/a");
    let other = tree.cgroup("cpu/b");
    let layout = tree.layout();
    assert_eq!(layout.locate_all(&[one.clone(), one.clone()]).unwrap().len(), 2);
    let message = layout.locate_all(&[one, other]).unwrap_err().to_string();
    assert!(message.contains("v1 memory") && message.contains("v1 cpu"), "{message}");
}

#[test]
fn this_machine_has_a_hierarchy_to_watch() {
    let layout = Layout::read().unwrap();
    let watched = layout.watched().expect("a mounted cgroup hierarchy");
    assert_eq!(layout.locate(&watched.point).unwrap().path, watched.root);
}
