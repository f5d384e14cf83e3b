//! Names of incident folders: `20261103T031500.250Z-cpu-pid-42`, made and recognised.
//!
//! Must not: touch the disk. What a target chose (its cgroup's path) never leaves the alphabet
//! `A-Z a-z 0-9 . _ -` here, so that no name can leave the dump folder or confuse a shell.

use std::time::{Duration, SystemTime};

use crate::signals::Target;

/// Bytes of the target's part. With the stamp, the longest kind and a suffix a name stays far
/// below the 255 bytes that Linux file systems allow.
const MAX_TARGET_LEN: usize = 80;

/// Hexadecimal digits of a container id that are shown, as Docker and containerd do.
const SHORT_CONTAINER_ID: usize = 12;

/// The shape of a stamp: `0` is any digit, everything else is itself.
const STAMP_SHAPE: &[u8] = b"00000000T000000.000Z";

/// The name of an incident's folder, without a suffix for collisions.
///
/// `trigger_unix_ns` is the trigger's wall-clock time in nanoseconds since 1970 UTC, `kind` what the
/// incident is about, a word of ours.
pub fn folder_name(trigger_unix_ns: u64, kind: &str, target: &Target) -> String {
    format!("{}-{}-{}", stamp(trigger_unix_ns), kind, target_part(target))
}

/// RFC 3339 in UTC with milliseconds: `2026-11-03T03:15:00.250Z`.
pub(super) fn rfc3339(unix_ns: u64) -> String {
    // 2^64 ns end in the year 2554, well before the year 10000 that humantime cannot write.
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_ns);
    humantime::format_rfc3339_millis(time).to_string()
}

/// ISO 8601's basic form of the same: no `:`, which neither a tar of the folder nor a Windows
/// reader of it would like, and still sorted by time.
fn stamp(unix_ns: u64) -> String {
    rfc3339(unix_ns).chars().filter(|byte| !matches!(byte, '-' | ':')).collect()
}

fn target_part(target: &Target) -> String {
    match target {
        Target::Host => "host".to_owned(),
        Target::Process { pid } => format!("pid-{pid}"),
        Target::Cgroup { container: Some(container), .. } => {
            let id = sanitise(&container.id);
            id[..id.len().min(SHORT_CONTAINER_ID)].to_owned()
        }
        Target::Cgroup { path, container: None } => match path.trim_matches('/') {
            "" => "root".to_owned(),
            path => {
                let clean = sanitise(path);
                // The end of a path says more than its beginning.
                clean[clean.len().saturating_sub(MAX_TARGET_LEN)..].to_owned()
            }
        },
    }
}

/// One ASCII byte for each character, so that the result can be cut anywhere.
fn sanitise(text: &str) -> String {
    text.chars().map(|letter| if is_safe(letter) { letter } else { '_' }).collect()
}

fn is_safe(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

/// Whether a folder of this name may be an incident: of this recorder, or of a later one with more
/// signals.
pub(super) fn is_folder_name(name: &str) -> bool {
    let Some((stamp, rest)) = name.split_once('-') else { return false };
    let Some((kind, target)) = rest.split_once('-') else { return false };
    let stamped = stamp.len() == STAMP_SHAPE.len()
        && stamp.bytes().zip(STAMP_SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == *shape,
        });
    stamped
        && !kind.is_empty()
        && kind.bytes().all(|byte| byte.is_ascii_lowercase())
        && !target.is_empty()
        && target.chars().all(is_safe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::Container;

    /// 2026-11-03 03:15:00.250 UTC.
    const TRIGGER: u64 = 1_793_675_700_250_000_000;

    fn cgroup(path: &str) -> Target {
        Target::Cgroup { path: path.to_owned(), container: None }
    }

    #[test]
    fn names_say_when_what_and_whose() {
        let check = |kind, target: Target, expect: &str| {
            assert_eq!(folder_name(TRIGGER, kind, &target), expect);
        };
        check("cpu", Target::Host, "20261103T031500.250Z-cpu-host");
        check("manual", Target::Process { pid: 42 }, "20261103T031500.250Z-manual-pid-42");
        check("memory", cgroup("/"), "20261103T031500.250Z-memory-root");
        check("threads", cgroup("/a/b.slice"), "20261103T031500.250Z-threads-a_b.slice");
        check("cpu", cgroup("/../../etc"), "20261103T031500.250Z-cpu-.._.._etc");
        check("cpu", cgroup("/a\n\0b c"), "20261103T031500.250Z-cpu-a__b_c");
    }

    #[test]
    fn a_container_goes_by_its_short_id() {
        let target = Target::Cgroup {
            path: "/kubepods/x".to_owned(),
            container: Some(Container { id: "0123456789abcdef".repeat(4), pod_uid: None }),
        };
        assert_eq!(
            folder_name(TRIGGER, "manual", &target),
            "20261103T031500.250Z-manual-0123456789ab"
        );
    }

    #[test]
    fn only_incident_names_are_recognised() {
        let stamp = "20261103T031500.250Z";
        for good in ["-cpu-host", "-manual-pid-1-2", "-crash-x", "-cpu-..x"] {
            assert!(is_folder_name(&format!("{stamp}{good}")), "{good}");
        }
        for bad in ["", "-cpu", "-cpu-", "--host", "-CPU-host", "-cpu-a b", "-cpu-ä"] {
            assert!(!is_folder_name(&format!("{stamp}{bad}")), "{bad}");
        }
        assert!(!is_folder_name("2026-11-03T03:15:00.250Z-cpu-host"));
        assert!(!is_folder_name("x20261103T031500.250Z-cpu-host"));
    }

    proptest! {
        #[test]
        fn every_name_is_bounded_safe_and_recognised(time: u64, path in "\\PC{0,300}", id in "\\PC{0,80}") {
            for container in [None, Some(Container { id, pod_uid: None })] {
                let target = Target::Cgroup { path: path.clone(), container };
                let name = folder_name(time, "cpu", &target);
                prop_assert!(name.len() <= 20 + 1 + 3 + 1 + MAX_TARGET_LEN);
                // An empty container id is the one thing that cannot be shown; no parser makes it.
                prop_assert!(is_folder_name(&name) || name.ends_with("-cpu-"), "{}", name);
            }
        }
    }
}
