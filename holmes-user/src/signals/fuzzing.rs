//! Doors for `tests/fuzz`: the readers of this stage on bytes that anybody may have written.
//!
//! Each panics where what came out breaks a promise.
//!
//! Must not: be part of what is released: it needs the feature `fuzzing`, or a test.

use super::kernel_log::{KernelLog, MAX_KILLS, unescaped};
use super::memory_report::sum;

/// Records of the kernel's log, one on each line: in the file a record has several.
pub fn kernel_log(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut log, mut forged) = (KernelLog::default(), KernelLog::default());
    for record in text.lines() {
        log.take(record);
        // Programs write to the log, too, with a facility of their own.
        let (_, message) = record.split_once(';').unwrap_or_default();
        forged.take(&format!("14,1,1,-;{message}"));
    }
    assert_eq!(forged.taken(), []);
    let kills = log.taken();
    assert!(kills.len() <= MAX_KILLS);
    // Names and paths begin and end at letters that are no part of an escape.
    let text = unescaped(&text);
    for kill in &kills {
        assert!(text.contains(&kill.comm) && text.contains(&kill.pid.to_string()));
        let paths = [&kill.constraint, &kill.limited_cgroup, &kill.cgroup];
        assert!(paths.into_iter().flatten().all(|path| text.contains(path.as_str())));
        // Both or neither: they are told together.
        assert_eq!(kill.usage_bytes.is_some(), kill.limit_bytes.is_some());
    }
}

/// The mappings of a process, with what each has in memory.
pub fn smaps(data: &[u8]) {
    let found = sum(data);
    // One mapping more counts for itself, wherever it stands, and changes nothing else.
    let heap = "7000-8000 rw-p 00000000 00:00 0 [heap]\nRss: 4 kB\nAnonymous: 4 kB\n";
    let mut behind = data.to_vec();
    behind.extend(b"\n");
    behind.extend(heap.as_bytes());
    let more = sum(&behind[..]);
    assert_eq!(more.heap_bytes, found.heap_bytes.saturating_add(4096));
    assert_eq!(more.stack_bytes, found.stack_bytes);
    assert_eq!(more.anonymous_bytes, found.anonymous_bytes);
    assert_eq!(more.file_bytes, found.file_bytes);
    assert_eq!(more.shared_bytes, found.shared_bytes);
    assert_eq!((more.huge_bytes, more.swapped_bytes), (found.huge_bytes, found.swapped_bytes));
}
