//! The cgroup lines of `/proc/self/mountinfo` (format: proc_pid_mountinfo(5)).
//!
//! Must not: touch the file system. A line that is not understood is passed over: mount points and
//! sources are chosen by whoever may mount.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Controllers of cgroup v1: the name as a mount option, and the kernel's name of the subsystem
/// (`<name>_cgrp_id` in BTF), from `include/linux/cgroup_subsys.h`. In the order in which they are
/// preferred for following tasks: the first four exist wherever containers are limited.
const CONTROLLERS: [(&str, &str); 15] = [
    ("memory", "memory"),
    ("cpu", "cpu"),
    ("cpuacct", "cpuacct"),
    ("pids", "pids"),
    ("blkio", "io"),
    ("cpuset", "cpuset"),
    ("devices", "devices"),
    ("freezer", "freezer"),
    ("net_cls", "net_cls"),
    ("perf_event", "perf_event"),
    ("net_prio", "net_prio"),
    ("hugetlb", "hugetlb"),
    ("rdma", "rdma"),
    ("misc", "misc"),
    ("dmem", "dmem"),
];

/// The kernel's name of the v1 controller with this mount option.
pub(in crate::kernel) fn subsystem(controller: &str) -> Option<&'static str> {
    CONTROLLERS.iter().find(|(option, _)| *option == controller).map(|(_, name)| *name)
}

/// Place of a v1 controller in the order of preference.
pub(in crate::kernel) fn rank(controller: &str) -> usize {
    CONTROLLERS.iter().position(|(option, _)| *option == controller).unwrap_or(CONTROLLERS.len())
}

/// What a cgroup file system is mounted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Flavour {
    /// cgroup v2.
    Unified,
    /// cgroup v1 with these controllers, the preferred one first; never empty.
    V1(Vec<&'static str>),
    /// cgroup v1 without a controller, such as `name=systemd`.
    Named(String),
}

/// One mounted cgroup file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct MountLine {
    /// Where.
    pub(in crate::kernel) point: PathBuf,
    /// Which of its cgroups is seen at the mount point.
    pub(in crate::kernel) root: String,
    /// What kind it is.
    pub(in crate::kernel) flavour: Flavour,
}

/// All cgroup file systems of a mountinfo text, in its order.
pub(in crate::kernel) fn parse(text: &str) -> Vec<MountLine> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MountLine> {
    // Between the fixed fields and the type there are any number of optional ones, and a hyphen.
    // Spaces inside a field are written \040, so that this is the hyphen.
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (file_system, options) = (kind.next()?, kind.nth(1)?);
    let flavour = match file_system {
        "cgroup2" => Flavour::Unified,
        "cgroup" => v1_flavour(options)?,
        _ => return None,
    };
    let root = String::from_utf8_lossy(&unescape(root)).into_owned();
    let point = PathBuf::from(OsString::from_vec(unescape(point)));
    (root.starts_with('/') && point.is_absolute()).then_some(MountLine { point, root, flavour })
}

fn v1_flavour(options: &str) -> Option<Flavour> {
    let has = |controller: &str| options.split(',').any(|option| option == controller);
    let controllers: Vec<_> =
        CONTROLLERS.iter().map(|(option, _)| *option).filter(|option| has(option)).collect();
    if !controllers.is_empty() {
        return Some(Flavour::V1(controllers));
    }
    let name = options.split(',').find(|option| option.starts_with("name="))?;
    Some(Flavour::Named(name.to_owned()))
}

/// Undoes the kernel's escapes: a backslash and three octal digits.
fn unescape(field: &str) -> Vec<u8> {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|digits| {
            bytes[at] == b'\\'
                && digits[0] < b'4'
                && digits.iter().all(|d| (b'0'..b'8').contains(d))
        });
        if let Some(digits) = code {
            plain.push(digits.iter().fold(0, |code: u8, digit| (code << 3) | (digit - b'0')));
            at += 4;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(point: &str, root: &str, flavour: Flavour) -> MountLine {
        MountLine { point: point.into(), root: root.into(), flavour }
    }

    #[test]
    fn tells_unified_v1_and_named_hierarchies_apart() {
        let text = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct
32 23 0:28 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 23 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/memory,name=systemd
34 23 0:30 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw,memory
";
        assert_eq!(
            parse(text),
            [
                line("/sys/fs/cgroup", "/", Flavour::Unified),
                line("/sys/fs/cgroup/cpu,cpuacct", "/", Flavour::V1(vec!["cpu", "cpuacct"])),
                line("/sys/fs/cgroup/memory", "/docker/ab", Flavour::V1(vec!["memory"])),
                line("/sys/fs/cgroup/systemd", "/", Flavour::Named("name=systemd".into())),
            ]
        );
    }

    #[test]
    fn the_preferred_controller_comes_first_whatever_the_order_of_the_options() {
        let text = "1 1 0:1 / /c rw - cgroup c rw,freezer,cpuacct,cpu";
        let [MountLine { flavour, .. }] = &parse(text)[..] else { panic!("one line") };
        assert_eq!(*flavour, Flavour::V1(vec!["cpu", "cpuacct", "freezer"]));
    }

    #[test]
    fn escaped_mount_points_are_plain_again() {
        let text = r"1 1 0:1 /a\134b /with\040space\011and\134040 rw - cgroup2 a\040-\040b rw";
        assert_eq!(parse(text), [line("/with space\tand\\040", "/a\\b", Flavour::Unified)]);
    }

    #[test]
    fn the_io_controller_is_called_otherwise_inside_the_kernel() {
        assert_eq!(subsystem("blkio"), Some("io"));
        assert_eq!(subsystem("memory"), Some("memory"));
        assert_eq!(subsystem("name=systemd"), None);
    }

    #[test]
    fn broken_lines_are_passed_over() {
        for text in
            ["", " - ", "1 2 3 4 - cgroup2", "1 2 3 / /c - cgroup2", "1 2 3 x y - cgroup2 s rw"]
        {
            assert_eq!(parse(text), [], "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}") {
            parse(&format!("{text}\n1 1 0:1 / {text} - cgroup2 c rw"));
        }
    }
}
