//! Who holds a lock that a thread waits for, as the lock itself says: a word in the process's memory.
//!
//! Locks of the C libraries name their holder: glibc's in `__owner`, two words behind the one that is
//! waited for (`struct __pthread_mutex_s`), those with priority inheritance and musl's in that word itself
//! (futex(2), `FUTEX_TID_MASK`). Others (Go's, Rust's, Java's) do not.
//!
//! Must not: take a number for a thread that the process does not have. The process controls it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

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

/// Threads of one process whose numbers in its own namespace are looked at.
const MAX_THREADS: usize = 4096;

/// Bits of a futex that are its holder's thread id; above them are `FUTEX_OWNER_DIED` and `FUTEX_WAITERS`.
const TID_MASK: u32 = 0x3fff_ffff;

/// The state of glibc's lock that is held, and that others wait for.
const CONTENDED: u32 = 2;

/// Words that are looked at, from the one that is waited for on.
const WORDS: usize = 3;

/// Who holds the lock at this address of a process; `None` if it does not say, or nobody does.
pub fn lock_holder(proc_root: &Path, tgid: u32, lock: u64) -> Option<LockHolder> {
    let process = proc_root.join(tgid.to_string());
    let mut bytes = [0; WORDS * 4];
    File::open(process.join("mem")).ok()?.read_exact_at(&mut bytes, lock).ok()?;
    let [word, _, owner] = words(bytes);
    let named = if word == CONTENDED { owner } else { word & TID_MASK };
    let tid = thread(&process, named)?;
    Some(LockHolder { tgid, lock, tid })
}

fn words(bytes: [u8; WORDS * 4]) -> [u32; WORDS] {
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_ne_bytes(*word)))
}

/// The thread of a process that has this number in its own pid namespace.
fn thread(process: &Path, number: u32) -> Option<u32> {
    if number == 0 {
        return None;
    }
    let own = numbers(&process.join("status"))?;
    let tasks = process.join("task");
    if own.len() == 1 {
        return tasks.join(number.to_string()).exists().then_some(number);
    }
    let threads = fs::read_dir(tasks).ok()?.filter_map(Result::ok).take(MAX_THREADS);
    threads
        .filter_map(|task| numbers(&task.path().join("status")))
        .find(|numbers| numbers.last() == Some(&number))
        .and_then(|numbers| numbers.first().copied())
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

    fn holder_of(words: &[u32; WORDS]) -> Option<u32> {
        let own = std::process::id();
        let found = lock_holder(Path::new("/proc"), own, words.as_ptr() as u64);
        found.map(|holder| holder.tid)
    }

    #[test]
    fn glibc_and_priority_inheritance_name_the_holder() {
        assert_eq!(holder_of(&[CONTENDED, 1, tid()]), Some(tid()));
        assert_eq!(holder_of(&[tid() | 0x8000_0000, 0, 0]), Some(tid()));
    }

    #[test]
    fn a_number_that_is_no_thread_of_the_process_is_none() {
        assert_eq!(holder_of(&[CONTENDED, 0, 1]), None, "pid 1 is somebody else");
        assert_eq!(holder_of(&[0, 0, tid()]), None, "nobody holds it");
        assert_eq!(holder_of(&[1, 0, 0]), None);
        assert_eq!(lock_holder(Path::new("/proc"), std::process::id(), 8), None, "no memory");
        assert_eq!(lock_holder(Path::new("/proc"), u32::MAX, 4096), None, "no process");
    }
}
