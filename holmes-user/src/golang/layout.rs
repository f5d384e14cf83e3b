//! Where the fields of a goroutine are, and what else differs by version of Go.
//!
//! Confirmed for each version with the debug information of a program that was built with it. Others may say
//! it themselves ([`super::own_layout`]).
//!
//! Must not: guess for a version that is not here. A program may be built with any, and a wrong offset
//! reads something else.

use super::build_info::GoVersion;

/// The oldest minor version that is known.
pub const OLDEST: u32 = 18;
/// The newest one.
pub const NEWEST: u32 = 27;

/// Offsets in `runtime.g` on x86-64, in bytes. `stack` is at 0 and `sched` at 56 in all versions; the
/// latter begins with the stack pointer and the program counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The stack pointer a system call was made with; the program counter is behind it.
    pub(super) syscall_sp: usize,
    pub(super) status: usize,
    pub(super) goid: usize,
    pub(super) wait_since: usize,
    pub(super) wait_reason: usize,
    /// `trackingSeq`: counts, in a byte, how often the goroutine has left the state "running".
    pub(super) stops: usize,
    pub(super) locked_to: usize,
    /// `parentGoid`; since Go 1.21.
    pub(super) parent: Option<usize>,
    /// Where the `go` statement was.
    pub(super) go_statement: usize,
    /// The function it began with.
    pub(super) start: usize,
    /// A pointer to its labels.
    pub(super) labels: usize,
}

/// The number of functions that the compiler made up to call others (`FuncIDWrapper`).
pub(super) fn wrapper_id(version: &GoVersion) -> u8 {
    match (&version.own, version.minor) {
        (Some(own), _) => own.wrapper_id,
        (None, ..=21) => 21,
        (None, 22..=24) => 22,
        (None, _) => 23,
    }
}

/// Where `sched.sp` is.
pub(super) const SCHED_SP: usize = 56;
/// Where `sched.pc` is.
pub(super) const SCHED_PC: usize = 64;

impl Layout {
    /// Of a version, if it is known.
    pub(super) const fn of(minor: u32) -> Option<Self> {
        let layout = match minor {
            18..=20 => Self {
                syscall_sp: 112,
                status: 144,
                goid: 152,
                wait_since: 168,
                wait_reason: 176,
                stops: 189,
                locked_to: 232,
                parent: None,
                go_statement: 296,
                start: 312,
                labels: 360,
            },
            21 | 22 => Self {
                syscall_sp: 112,
                status: 144,
                goid: 152,
                wait_since: 168,
                wait_reason: 176,
                stops: if minor == 21 { 188 } else { 191 },
                locked_to: 208,
                parent: Some(272),
                go_statement: 280,
                start: 296,
                labels: 344,
            },
            // The frame pointer of system calls came in between.
            23 | 24 => Self {
                syscall_sp: 112,
                status: 152,
                goid: 160,
                wait_since: 176,
                wait_reason: 184,
                stops: 199,
                locked_to: 216,
                parent: Some(280),
                go_statement: 288,
                start: 304,
                labels: 352,
            },
            // `sched.ret` is gone.
            25 => Self {
                syscall_sp: 104,
                status: 144,
                goid: 152,
                wait_since: 168,
                wait_reason: 176,
                stops: 191,
                locked_to: 208,
                parent: Some(272),
                go_statement: 280,
                start: 296,
                labels: 344,
            },
            // Flags of cryptography came behind the lock to a thread.
            26 | 27 => Self {
                syscall_sp: 104,
                status: 144,
                goid: 152,
                wait_since: 168,
                wait_reason: 176,
                stops: 191,
                locked_to: 208,
                parent: Some(280),
                go_statement: 288,
                start: 304,
                labels: 352,
            },
            _ => return None,
        };
        Some(layout)
    }

    /// Bytes up to the last field that is read.
    pub(super) fn bytes(&self) -> usize {
        let last = [
            self.syscall_sp + 8,
            self.status,
            self.goid,
            self.wait_since,
            self.wait_reason,
            self.stops,
            self.locked_to,
            self.parent.unwrap_or_default(),
            self.go_statement,
            self.start,
            self.labels,
        ];
        last.into_iter().fold(SCHED_PC, usize::max) + 8
    }
}

/// Offsets in `runtime.sudog`, which stands for a goroutine in a queue. The goroutine is at 0, and what is
/// behind it in a tree at 8 and before it at 16, in all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SudogLayout {
    /// What it waits for.
    pub(super) elem: usize,
    /// The next one that waits for the same.
    pub(super) waitlink: usize,
}

impl SudogLayout {
    /// Of a version.
    pub(super) fn of(version: &GoVersion) -> Self {
        match (&version.own, version.minor) {
            (Some(own), _) => own.sudog,
            (None, ..=25) => Self { elem: 24, waitlink: 64 },
            // `elem` is two words, of which the collector may clear the first.
            (None, _) => Self { elem: 32, waitlink: 72 },
        }
    }

    /// Bytes up to the last field that is read.
    pub(super) const fn bytes(&self) -> usize {
        self.waitlink + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_in_the_range_is_known_and_no_other() {
        for minor in 0..64 {
            let layout = Layout::of(minor);
            assert_eq!(layout.is_some(), (OLDEST..=NEWEST).contains(&minor), "{minor}");
            if let Some(layout) = layout {
                assert!(layout.start > layout.go_statement && layout.labels > layout.start);
                assert!(layout.bytes() < 512);
            }
        }
    }
}
