//! Why a goroutine waits: the runtime's texts, by version.
//!
//! Format: `waitReasonStrings` in `runtime/runtime2.go`; a number's meaning differs by version.
//!
//! Must not: have a text for a number that a version does not use.

use super::build_info::GoVersion;

/// The text of a number; `None` if the version has no such reason, or the reason has no text.
pub(super) fn text(version: &GoVersion, reason: u8) -> Option<&str> {
    match &version.own {
        Some(own) => own.reasons.get(usize::from(reason)).map(|text| &**text),
        None => text_of(version.minor, reason),
    }
    .filter(|text| !text.is_empty())
}

fn text_of(minor: u32, reason: u8) -> Option<&'static str> {
    let (texts, known): (&[&str], usize) = match minor {
        18 | 19 => (&GO_18, GO_18.len()),
        // Each added some behind those of the one before.
        20 | 21 => (&GO_23, 32),
        22 => (&GO_23, 37),
        23 => (&GO_23, GO_23.len()),
        24 => (&GO_24, GO_24.len()),
        25 => (&GO_25, GO_25.len()),
        26 | 27 => (&GO_26, GO_26.len()),
        _ => return None,
    };
    let known = texts.get(..known).unwrap_or_default();
    known.get(usize::from(reason)).copied()
}

/// How many reasons a version has: a larger number is none.
pub(super) fn is_known(version: &GoVersion, reason: u8) -> bool {
    reason == 0 || text(version, reason).is_some()
}

/// Whether it is waited for a semaphore: that of a lock or of a `sync.WaitGroup`, or one of the runtime's own.
/// A `sync.Cond` has a list of its own.
pub(super) fn is_lock(version: &GoVersion, reason: u8) -> bool {
    let texts = ["semacquire", "sync.Mutex.", "sync.RWMutex.", "sync.WaitGroup."];
    text(version, reason).is_some_and(|text| texts.iter().any(|start| text.starts_with(start)))
}

const GO_18: [&str; 27] = [
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "timer goroutine (idle)",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "preempted",
    "debug call",
];

const GO_23: [&str; 38] = [
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
];

const GO_24: [&str; 44] = [
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
    "synctest.Run",
    "synctest.Wait",
    "chan receive (synctest)",
    "chan send (synctest)",
    "select (synctest)",
];

const GO_25: [&str; 47] = [
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "GOMAXPROCS updater (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
    "synctest.Run",
    "synctest.Wait",
    "chan receive (durable)",
    "chan send (durable)",
    "select (durable)",
    "sync.WaitGroup.Wait (durable)",
    "cleanup wait",
];

const GO_26: [&str; 47] = [
    "",
    "GC assist marking",
    "IO wait",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "finalizer wait",
    "force gc (idle)",
    "GOMAXPROCS updater (idle)",
    "semacquire",
    "sleep",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "select (no cases)",
    "select",
    "chan receive",
    "chan send",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
    "synctest.Run",
    "synctest.Wait",
    "chan receive (durable)",
    "chan send (durable)",
    "select (durable)",
    "sync.WaitGroup.Wait (durable)",
    "cleanup wait",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_version() {
        let version = |minor: u32| GoVersion::parse(&format!("go1.{minor}")).unwrap();
        let is_known = |minor, reason| is_known(&version(minor), reason);
        let text = |minor, reason| text_of(minor, reason).filter(|text| !text.is_empty());
        for minor in [18, 19, 20, 25] {
            assert_eq!(text(minor, 14), Some("chan receive"), "{minor}");
        }
        assert_eq!(text(19, 21), Some("timer goroutine (idle)"));
        assert_eq!(text(20, 21), Some("sync.Mutex.Lock"));
        assert_eq!(text(24, 24), Some("sync.WaitGroup.Wait"));
        assert_eq!(text(25, 25), Some("sync.WaitGroup.Wait"));
        assert_eq!(text(26, 19), Some("chan receive"));
        assert_eq!((text(26, 0), is_known(26, 0)), (None, true));
        assert_eq!((text(18, 27), is_known(18, 27)), (None, false));
        assert!(!is_known(28, 1));
        let locks = |minor| {
            let version = version(minor);
            (0..u8::MAX).filter(|&reason| is_lock(&version, reason)).count()
        };
        assert_eq!([18, 20, 23, 24, 25, 26, 27].map(locks), [1, 4, 4, 5, 6, 6, 6]);
    }
}
