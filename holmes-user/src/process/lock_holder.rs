//! Who holds a lock that a thread waits for, as the lock itself says: words in the process's memory.
//!
//! Some locks of the C libraries name their holder: glibc's in `__owner` (`struct __pthread_mutex_s`, whose
//! first word is waited for), those with priority inheritance, and musl's of the kinds that check their owner,
//! in the word that is waited for (futex(2), `FUTEX_TID_MASK`). Others (musl's usual ones, Go's, Rust's,
//! Java's) do not.
//!
//! Must not: take a number for a thread that the process does not have, or wait for a page. The process
//! controls both.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use holmes_common::limits::PAGE_SHIFT;
use serde::{Deserialize, Serialize};

use super::pagemap::present;

/// A lock and the thread that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The process whose lock it is.
    pub tgid: u32,
    /// The address of the futex in it.
    pub lock: u64,
    /// The thread that holds it, in the initial pid namespace.
    pub tid: u32,
}

/// Threads of one process whose numbers in its own namespace are looked at, once for all its locks.
const MAX_THREADS: usize = 4096;

/// Bits of a futex that are its holder's thread id, and the one that says that others wait for it.
const TID_MASK: u32 = 0x3fff_ffff;
const WAITERS: u32 = 1 << 31;

/// What musl's usual lock has in place of a thread id: `EBUSY`.
const BUSY: u32 = 16;

/// The state of glibc's lock that is held, and that others wait for.
const CONTENDED: u32 = 2;

/// The kinds of glibc's lock, with their flags, are below this; and no more threads use one.
const MAX_KIND: u32 = 0x400;
const MAX_USERS: u32 = 1 << 16;

/// `__lock`, `__count`, `__owner`, `__nusers` and `__kind`.
const WORDS: usize = 5;

/// Who holds these locks of a process, as far as they say so.
pub fn lock_holders(
    proc_root: &Path,
    tgid: u32,
    locks: impl Iterator<Item = u64>,
) -> Vec<LockHolder> {
    let process = proc_root.join(tgid.to_string());
    let open = |name: &str| File::open(process.join(name)).ok();
    let (Some(memory), Some(pages)) = (open("mem"), open("pagemap")) else { return Vec::new() };
    let mut threads = None;
    let mut found = Vec::new();
    for lock in locks {
        let Some(number) = words(&memory, &pages, lock).and_then(named) else { continue };
        let threads = threads.get_or_insert_with(|| Threads::of(&process));
        found.extend(threads.find(&process, number).map(|tid| LockHolder { tgid, lock, tid }));
    }
    found
}

/// The first words of a lock; `None` where they are not in memory, or not in one page.
fn words(memory: &File, pages: &File, lock: u64) -> Option<[u32; WORDS]> {
    let last = lock.checked_add(WORDS as u64 * 4 - 1)?;
    if last >> PAGE_SHIFT != lock >> PAGE_SHIFT {
        return None;
    }
    present(pages, lock)?;
    let mut bytes = [0; WORDS * 4];
    memory.read_exact_at(&mut bytes, lock).ok()?;
    let (words, _) = bytes.as_chunks::<4>();
    Some(std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_ne_bytes(*word))))
}

/// The number of the thread that a lock names.
fn named([word, _, owner, users, kind]: [u32; WORDS]) -> Option<u32> {
    let number = if word & WAITERS != 0 && word & TID_MASK != BUSY {
        word & TID_MASK
    } else if word == CONTENDED && (1..MAX_USERS).contains(&users) && kind < MAX_KIND {
        owner
    } else {
        0
    };
    (number != 0).then_some(number)
}

/// The threads of a process by their numbers in its own pid namespace.
enum Threads {
    /// The numbers are the initial namespace's.
    Same,
    Others(HashMap<u32, u32>),
}

impl Threads {
    fn of(process: &Path) -> Self {
        let own = numbers(&process.join("status")).unwrap_or_default();
        if own.len() == 1 {
            return Self::Same;
        }
        let tasks = fs::read_dir(process.join("task")).into_iter().flatten();
        let threads = tasks.filter_map(Result::ok).take(MAX_THREADS);
        let both = threads.filter_map(|task| {
            let numbers = numbers(&task.path().join("status"))?;
            Some((*numbers.last()?, *numbers.first()?))
        });
        Self::Others(both.collect())
    }

    fn find(&self, process: &Path, number: u32) -> Option<u32> {
        match self {
            Self::Same => process.join("task").join(number.to_string()).exists().then_some(number),
            Self::Others(threads) => threads.get(&number).copied(),
        }
    }
}

/// A thread's ids, from the initial namespace to its own (`NSpid`, proc_pid_status(5)).
fn numbers(status: &Path) -> Option<Vec<u32>> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tid() -> u32 {
        // SAFETY: no argument.
        unsafe { libc::gettid() }.unsigned_abs()
    }

    /// In one page.
    #[repr(align(32))]
    struct Lock([u32; WORDS]);

    fn holder_of(words: [u32; WORDS]) -> Option<u32> {
        let lock = Lock(words);
        let address = std::hint::black_box(&lock).0.as_ptr() as u64;
        let found = lock_holders(Path::new("/proc"), std::process::id(), [address].into_iter());
        found.first().map(|holder| holder.tid)
    }

    #[test]
    fn glibc_and_priority_inheritance_name_the_holder() {
        assert_eq!(holder_of([CONTENDED, 1, tid(), 1, 0]), Some(tid()));
        assert_eq!(holder_of([tid() | WAITERS, 0, 0, 0, 0]), Some(tid()));
    }

    #[test]
    fn what_is_no_such_lock_names_nobody() {
        assert_eq!(holder_of([CONTENDED, 0, 1, 1, 0]), None, "pid 1 is somebody else");
        assert_eq!(holder_of([0, 0, tid(), 1, 0]), None, "nobody holds it");
        assert_eq!(
            holder_of([CONTENDED, 0, tid(), 0, 0]),
            None,
            "another lock, with a value behind"
        );
        assert_eq!(holder_of([CONTENDED, 0, tid(), 1, 0x5555_5555]), None, "the same");
        assert_eq!(holder_of([tid(), 0, 0, 0, 0]), None, "a counter");
        assert_eq!(named([BUSY | WAITERS, 0, 0, 0, 0]), None, "musl's usual lock");
    }

    #[test]
    fn what_cannot_be_read_names_nobody() {
        let holders = |tgid, lock| lock_holders(Path::new("/proc"), tgid, [lock].into_iter());
        assert_eq!(holders(std::process::id(), 8), [], "no memory");
        assert_eq!(holders(std::process::id(), u64::MAX - 3), []);
        assert_eq!(holders(u32::MAX, 4096), [], "no process");
    }
}
