//! Doors for `tests/fuzz`: the readers of this stage on bytes that anybody may have written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::Container;
use super::maps::{Backing, MAX_MAPPINGS, read};

/// The executable mappings of a process.
pub fn maps(data: &[u8]) {
    let lines = read(data);
    assert!(lines.len() <= MAX_MAPPINGS);
    assert!(lines.len() <= data.split(|&byte| byte == b'\n').count());
    for line in &lines {
        if let Backing::File(_, path) = &line.backing {
            assert!(!path.is_empty() && path.len() <= data.len());
        }
    }
    // A line says the same wherever it stands.
    let mut behind = b"400000-401000 r-xp 00000000 08:11 42 /a\n".to_vec();
    behind.extend(data);
    let again = read(&behind[..]);
    let kept = lines.len().min(MAX_MAPPINGS - 1);
    assert_eq!(again.get(1..=kept), lines.get(..kept));
}

/// The container that a cgroup's path tells.
pub fn cgroup_path(data: &[u8]) {
    let path = String::from_utf8_lossy(data);
    if let Some(container) = Container::from_path(&path) {
        assert_eq!(container.id.len(), 64);
        assert!(path.contains(&container.id));
        let uid = container.pod_uid.unwrap_or_default();
        assert!(
            uid.len() <= 36 && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        );
    }
}
