//! What the kernel tells of threads that sleep: records of `holmes_common::record::BlockedThread`, one behind
//! the other.
//!
//! Must not: look at a thread's stack. Where it begins is told; whoever knows its process walks it.

use std::io::{self, ErrorKind, Read};
use std::mem::offset_of;

use holmes_common::limits::MAX_WAITERS;
use holmes_common::record::{BLOCKED_BYTES, BlockedThread, RecordHeader};
use holmes_common::walk::Frame;

use super::decode::{Malformed, array, decode_blocked};
use super::observation::{Nanos, Observation, What};

/// Threads taken from one look: as many as the probes follow. What is more cannot be told to have woken.
const MAX_THREADS: usize = MAX_WAITERS as usize;

/// Bytes asked for at a time: what the kernel has ready at the most.
const CHUNK: usize = 32 << 10;

/// Times that the kernel may be asked once more without an answer: it answers so after a million tasks that
/// are nobody's.
const MAX_EMPTY: u32 = 16;

/// A thread that sleeps.
#[derive(Clone, Debug)]
pub struct Sleeper {
    /// [`What::Blocked`], without its user stack.
    pub observation: Observation,
    /// Where it entered the kernel; nothing of it is known if the observation's walk has ended.
    pub leaf: Frame,
}

/// What one look has told.
#[derive(Clone, Debug, Default)]
pub struct Sleepers {
    /// The wanted ones.
    pub threads: Vec<Sleeper>,
    /// Wanted ones that there was no room for.
    pub left_out: u64,
}

/// A thread with when it left its CPU and when the reader got its own, by the scheduler's clock; 0 where that
/// is not known.
struct Told {
    sleeper: Sleeper,
    left_at: u64,
}

/// Reads what the kernel tells, and keeps what is `wanted`.
///
/// # Errors
/// The file cannot be read, or what is in it is not what a probe writes.
pub fn read_sleepers(
    mut file: impl Read,
    wanted: impl Fn(&Observation) -> bool,
) -> io::Result<Sleepers> {
    let mut bytes: Vec<u8> = Vec::with_capacity(2 * CHUNK);
    let mut told = Vec::new();
    let mut left_out = 0;
    // What is to be added to the scheduler's clock: the reader was looking soon after it got its CPU, and it
    // was the sooner the less there is between.
    let mut ahead: Option<i128> = None;
    let mut empty = 0;
    loop {
        let before = bytes.len();
        bytes.resize(before + CHUNK, 0);
        let read = match file.read(bytes.get_mut(before..).unwrap_or_default()) {
            Ok(read) => read,
            Err(error) if is_to_repeat(error.kind()) && empty < MAX_EMPTY => {
                empty += 1;
                bytes.truncate(before);
                continue;
            }
            Err(error) => return Err(error),
        };
        bytes.truncate(before + read);
        if read == 0 {
            break;
        }
        let mut rest = bytes.as_slice();
        while let Some((thread, reader_at, behind)) = first(rest)? {
            rest = behind;
            if reader_at != 0 {
                let now = i128::from(thread.sleeper.observation.time.0) - i128::from(reader_at);
                ahead = Some(ahead.map_or(now, |ahead| ahead.min(now)));
            }
            if !wanted(&thread.sleeper.observation) {
                continue;
            }
            if told.len() < MAX_THREADS {
                told.push(thread);
            } else {
                left_out += 1;
            }
        }
        bytes = rest.to_vec();
    }
    let threads = told.into_iter().map(|thread| since(thread, ahead)).collect();
    Ok(Sleepers { threads, left_out })
}

fn is_to_repeat(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// The thread of the first record, when the reader got its CPU, and what is behind; `None` where the record is
/// not there as a whole.
fn first(bytes: &[u8]) -> io::Result<Option<(Told, u64, &[u8])>> {
    if bytes.len() < BLOCKED_BYTES {
        return Ok(None);
    }
    let malformed = |error: Malformed| io::Error::new(ErrorKind::InvalidData, error);
    let frames = array(bytes, offset_of!(RecordHeader, kernel_frames)).map_err(malformed)?;
    let length = BLOCKED_BYTES + usize::from(u16::from_ne_bytes(frames)) * size_of::<u64>();
    let Some((record, behind)) = bytes.split_at_checked(length) else { return Ok(None) };
    let observation = decode_blocked(record).map_err(malformed)?;
    let word = |offset| array(record, offset).map(u64::from_ne_bytes).map_err(malformed);
    let leaf = Frame {
        ip: word(offset_of!(BlockedThread, ip))?,
        sp: word(offset_of!(BlockedThread, sp))?,
        bp: word(offset_of!(BlockedThread, bp))?,
        link: word(offset_of!(BlockedThread, link))?,
        behind: word(offset_of!(BlockedThread, in_call))? != 0,
        ..Frame::default()
    };
    let left_at = word(offset_of!(BlockedThread, left_at))?;
    let reader_at = word(offset_of!(BlockedThread, reader_at))?;
    Ok(Some((Told { sleeper: Sleeper { observation, leaf }, left_at }, reader_at, behind)))
}

/// The thread with since when it waits, where the clocks could be compared; else it is the look itself.
fn since(Told { mut sleeper, left_at }: Told, ahead: Option<i128>) -> Sleeper {
    let now = sleeper.observation.time;
    if let (What::Blocked { since, .. }, Some(ahead)) = (&mut sleeper.observation.what, ahead)
        && left_at != 0
    {
        let left = (i128::from(left_at) + ahead).clamp(0, now.0.into());
        *since = Nanos(u64::try_from(left).unwrap_or(now.0));
    }
    sleeper
}

#[cfg(test)]
mod tests {
    use holmes_common::record::{RecordKind, wait_value};
    use proptest::prelude::*;

    use super::super::wait_cause::WaitCause;
    use super::*;

    /// A record of a thread that waits for a futex, with as many kernel frames.
    fn record(tid: u32, now: u64, left_at: u64, reader_at: u64, frames: u16) -> Vec<u8> {
        let mut bytes = vec![0; BLOCKED_BYTES];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        let value = wait_value(1, 9, 1, libc::SYS_futex as u32);
        put(offset_of!(RecordHeader, kind), &(RecordKind::Blocked as u16).to_ne_bytes());
        put(offset_of!(RecordHeader, time_ns), &now.to_ne_bytes());
        put(offset_of!(RecordHeader, tid), &tid.to_ne_bytes());
        put(offset_of!(RecordHeader, kernel_frames), &frames.to_ne_bytes());
        put(offset_of!(RecordHeader, value), &value.to_ne_bytes());
        put(offset_of!(RecordHeader, aux), &0x7000_u64.to_ne_bytes());
        put(offset_of!(BlockedThread, ip), &0x1234_u64.to_ne_bytes());
        put(offset_of!(BlockedThread, in_call), &1_u64.to_ne_bytes());
        put(offset_of!(BlockedThread, left_at), &left_at.to_ne_bytes());
        put(offset_of!(BlockedThread, reader_at), &reader_at.to_ne_bytes());
        bytes.extend((0..frames).flat_map(|frame| u64::from(frame).to_ne_bytes()));
        bytes
    }

    /// As a file that hands out so many bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(into.len());
            let (now, later) = self.0.split_at(length);
            into[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn read(bytes: &[u8], at_a_time: usize) -> Sleepers {
        read_sleepers(Slowly(bytes, at_a_time), |it| it.tid != 3).unwrap()
    }

    #[test]
    fn threads_with_since_when_they_wait_however_the_bytes_come() {
        // The reader got its CPU at 500 of a clock that is 1,000 behind; it was interrupted, then.
        let mut bytes = record(1, 1_600, 200, 500, 5);
        bytes.extend(record(2, 1_510, 0, 500, 0));
        bytes.extend(record(3, 1_700, 100, 0, 127));
        bytes.extend(record(4, 1_800, 999, 500, 1));
        for at_a_time in [1, 7, 300, 10_000] {
            let Sleepers { threads, left_out } = read(&bytes, at_a_time);
            let told = threads.iter().map(|it| match it.observation.what {
                What::Blocked { since, number: 9, cause: WaitCause::Futex, lock: 0x7000 } => {
                    (it.observation.tid, since.0, it.observation.stack.kernel.len())
                }
                other => panic!("{other:?}"),
            });
            // Not known of the second; nobody can wait since the future.
            let expected = [(1, 1_210, 5), (2, 1_510, 0), (4, 1_800, 1)];
            assert_eq!((told.collect::<Vec<_>>(), left_out), (expected.to_vec(), 0));
            assert!(threads.iter().all(|it| it.leaf.ip == 0x1234 && it.leaf.behind));
        }
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut bytes = Vec::new();
        for _ in 0..MAX_THREADS + 5 {
            bytes.extend(record(1, 1_000, 0, 0, 0));
        }
        let Sleepers { threads, left_out } = read(&bytes, CHUNK);
        assert_eq!((threads.len(), left_out), (MAX_THREADS, 5));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
            // Either answer is right; not panicking is the point.
            let _ = read_sleepers(bytes.as_slice(), |_| true);
        }
    }
}
