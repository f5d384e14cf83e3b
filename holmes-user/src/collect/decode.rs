//! One record's bytes become an [`Observation`]. The layout is `holmes_common::record`.
//!
//! Must not trust the bytes: a record that does not fit its own counts is refused.

use std::mem::offset_of;
use std::sync::Arc;

use holmes_common::limits::{COMM_LEN, MAX_KERNEL_FRAMES, MAX_USER_FRAMES};
use holmes_common::record::{
    ALLOCATION_SIZE_BITS, BLOCKED_BYTES, HEADER_BYTES, NO_CALL, RecordHeader, RecordKind,
    StackCopy, flag,
};
use holmes_common::unwind::WalkEnd;

use super::observation::{
    CgroupId, Comm, Memory, Nanos, Observation, Stack, StackMemory, Walk, What,
};
use super::wait_cause::WaitCause;

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is shorter than its header, or than the frames it announces.
    #[error("the record is cut short")]
    Short,
    /// It announces more frames than a probe can write.
    #[error(
        "the record announces more than {MAX_USER_FRAMES} user or {MAX_KERNEL_FRAMES} kernel frames"
    )]
    TooManyFrames,
    /// No probe writes this kind.
    #[error("the record is of an unknown kind {0}")]
    UnknownKind(u16),
}

/// Reads one field of the header at its offset.
macro_rules! field {
    ($bytes:expr, $name:ident: $type:ty) => {
        <$type>::from_ne_bytes(array($bytes, offset_of!(RecordHeader, $name))?)
    };
}

/// Decodes a record.
///
/// # Errors
/// If the bytes are not a record that a probe could have written.
pub fn decode(bytes: &[u8]) -> Result<Observation, Malformed> {
    match field!(bytes, kind: u16) {
        // Of what is not in the ring buffer.
        kind if kind == RecordKind::Blocked as u16 => Err(Malformed::UnknownKind(kind)),
        _ => decode_at(bytes, HEADER_BYTES),
    }
}

/// Decodes the record of a thread that sleeps, but for where its stack begins.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_blocked(bytes: &[u8]) -> Result<Observation, Malformed> {
    match field!(bytes, kind: u16) {
        kind if kind == RecordKind::Blocked as u16 => decode_at(bytes, BLOCKED_BYTES),
        kind => Err(Malformed::UnknownKind(kind)),
    }
}

/// Decodes a record whose frames begin there.
fn decode_at(bytes: &[u8], frames_at: usize) -> Result<Observation, Malformed> {
    let raw_kind = field!(bytes, kind: u16);
    let kind = RecordKind::from_raw(raw_kind).ok_or(Malformed::UnknownKind(raw_kind))?;
    let user_frames = usize::from(field!(bytes, user_frames: u16));
    let kernel_frames = usize::from(field!(bytes, kernel_frames: u16));
    if user_frames > MAX_USER_FRAMES || kernel_frames > MAX_KERNEL_FRAMES {
        return Err(Malformed::TooManyFrames);
    }
    let frames = bytes.get(frames_at..).ok_or(Malformed::Short)?;
    let (user, rest) =
        frames.split_at_checked(user_frames * size_of::<u64>()).ok_or(Malformed::Short)?;
    let (kernel, _padding) =
        rest.split_at_checked(kernel_frames * size_of::<u64>()).ok_or(Malformed::Short)?;
    let flags = field!(bytes, flags: u32);
    let value = field!(bytes, value: i64);
    let aux = field!(bytes, aux: u64);
    let third = field!(bytes, stopped_at: u64);
    let what = match kind {
        RecordKind::Sample => What::CpuSample,
        RecordKind::Mmap => What::Mmap { bytes: value.cast_unsigned(), calls: aux },
        RecordKind::Released => What::Released { start: aux, bytes: value.cast_unsigned() },
        RecordKind::Brk => What::Brk { bytes: value.cast_unsigned(), calls: aux },
        RecordKind::Mremap => What::Mremap { bytes: value.cast_unsigned(), calls: aux },
        RecordKind::NewTask if flags & flag::NEW_THREAD != 0 => What::NewThread { tid: aux as u32 },
        RecordKind::NewTask => What::NewProcess { tgid: (aux >> 32) as u32 },
        RecordKind::Exec => What::Exec,
        RecordKind::Exit => What::Exit,
        RecordKind::Fault => What::Fault {
            address: aux,
            bytes: value.cast_unsigned(),
            memory: if flags & flag::HUGE_PAGE != 0 {
                Memory::AnonymousHuge
            } else {
                Memory::Unknown
            },
        },
        RecordKind::Moved => What::Moved { from: aux, to: value.cast_unsigned(), bytes: third },
        RecordKind::OomVictim => What::OomVictim,
        RecordKind::Allocation => What::Allocation {
            address: aux,
            bytes: value.cast_unsigned() & ((1 << ALLOCATION_SIZE_BITS) - 1),
            intervals: (value.cast_unsigned() >> ALLOCATION_SIZE_BITS) as u8,
        },
        RecordKind::Free => What::Free { address: aux },
        RecordKind::Wait | RecordKind::Blocked => {
            let value = value.cast_unsigned();
            let call = Some((value >> 32) as u32).filter(|call| *call != NO_CALL);
            let cause = WaitCause::of((value >> 16) as u32 & 0xffff, call.map(i64::from));
            let (number, lock) = ((value >> 8) as u8, aux);
            if kind == RecordKind::Wait {
                What::Wait { waits: value & 0xff, number, cause, lock }
            } else {
                // Since when is known when the clocks have been compared.
                What::Blocked { since: Nanos(field!(bytes, time_ns: u64)), number, cause, lock }
            }
        }
        RecordKind::WaitEnd => What::WaitEnd { number: value as u8 },
        RecordKind::StackCopy => return Err(Malformed::UnknownKind(raw_kind)),
    };
    Ok(Observation {
        time: Nanos(field!(bytes, time_ns: u64)),
        tgid: field!(bytes, tgid: u32),
        tid: field!(bytes, tid: u32),
        cgroup: CgroupId(field!(bytes, cgroup_id: u64)),
        comm: Comm::new(array::<COMM_LEN>(bytes, offset_of!(RecordHeader, comm))?),
        cpu: field!(bytes, cpu: u32),
        flags,
        walk: Walk {
            // A number that no probe writes says nothing of the stack, which is true all the same.
            end: WalkEnd::from_raw(field!(bytes, walk_end: u16)).unwrap_or(WalkEnd::NotWalked),
            stopped_at: if kind == RecordKind::Moved { 0 } else { third },
            copy: None,
        },
        stack: Arc::new(Stack { user: words(user), kernel: words(kernel) }),
        what,
    })
}

/// Decodes a copy of a stack, and tells whose it is: the sample of this time and CPU. `None` for a
/// record of another kind.
pub(super) fn decode_copy(bytes: &[u8]) -> Option<Result<(u64, u32, StackMemory), Malformed>> {
    let kind = array(bytes, offset_of!(RecordHeader, kind)).ok().map(u16::from_ne_bytes)?;
    (kind == RecordKind::StackCopy as u16).then(|| {
        let word = |offset| array(bytes, offset).map(u64::from_ne_bytes);
        let length = usize::try_from(word(offset_of!(StackCopy, length))?).unwrap_or(usize::MAX);
        let memory = bytes
            .get(offset_of!(StackCopy, bytes)..)
            .and_then(|memory| memory.get(..length))
            .ok_or(Malformed::Short)?;
        let memory = StackMemory {
            ip: word(offset_of!(StackCopy, ip))?,
            sp: word(offset_of!(StackCopy, sp))?,
            bp: word(offset_of!(StackCopy, bp))?,
            bytes: memory.into(),
        };
        Ok((field!(bytes, time_ns: u64), field!(bytes, cpu: u32), memory))
    })
}

pub(super) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Malformed> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or(Malformed::Short)
}

fn words(bytes: &[u8]) -> Box<[u64]> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use holmes_common::record::allocation_value;
    use proptest::prelude::*;

    use super::*;

    fn record(
        kind: u16,
        user: &[u64],
        kernel: &[u64],
        value: i64,
        aux: u64,
        flags: u32,
    ) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        put(offset_of!(RecordHeader, kind), &kind.to_ne_bytes());
        put(offset_of!(RecordHeader, flags), &flags.to_ne_bytes());
        put(offset_of!(RecordHeader, time_ns), &7_u64.to_ne_bytes());
        put(offset_of!(RecordHeader, tgid), &42_u32.to_ne_bytes());
        put(offset_of!(RecordHeader, user_frames), &(user.len() as u16).to_ne_bytes());
        put(offset_of!(RecordHeader, kernel_frames), &(kernel.len() as u16).to_ne_bytes());
        put(offset_of!(RecordHeader, comm), b"spin\0");
        put(offset_of!(RecordHeader, value), &value.to_ne_bytes());
        put(offset_of!(RecordHeader, aux), &aux.to_ne_bytes());
        for address in user.iter().chain(kernel) {
            bytes.extend(address.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_sample() {
        let observation = decode(&record(1, &[1, 2], &[3], 0, 0, 0)).unwrap();
        assert_eq!(observation.tgid, 42);
        assert_eq!(observation.time, Nanos(7));
        assert_eq!(observation.comm.text(), "spin");
        assert_eq!(*observation.stack.user, [1, 2]);
        assert_eq!(*observation.stack.kernel, [3]);
        assert_eq!(observation.what, What::CpuSample);
    }

    #[test]
    fn each_kind() {
        let what = |kind, value, aux, flags| decode(&record(kind, &[], &[], value, aux, flags));
        let what = |kind, value, aux, flags| what(kind, value, aux, flags).map(|found| found.what);
        assert_eq!(what(2, 4096, 1, 0), Ok(What::Mmap { bytes: 4096, calls: 1 }));
        assert_eq!(what(3, 4096, 7, 0), Ok(What::Released { start: 7, bytes: 4096 }));
        assert_eq!(what(4, 4096, 64, 0), Ok(What::Brk { bytes: 4096, calls: 64 }));
        assert_eq!(what(5, 9, 1, 0), Ok(What::Mremap { bytes: 9, calls: 1 }));
        let ids = 5 << 32 | 6;
        assert_eq!(what(6, 0, ids, flag::NEW_THREAD), Ok(What::NewThread { tid: 6 }));
        assert_eq!(what(6, 0, ids, 0), Ok(What::NewProcess { tgid: 5 }));
        assert_eq!(what(7, 0, 0, 0), Ok(What::Exec));
        assert_eq!(what(8, 0, 0, flag::LAST_THREAD), Ok(What::Exit));
        let fault = |memory| Ok(What::Fault { address: 0x1000, bytes: 1 << 19, memory });
        assert_eq!(what(10, 1 << 19, 0x1000, 0), fault(Memory::Unknown));
        assert_eq!(what(10, 1 << 19, 0x1000, flag::HUGE_PAGE), fault(Memory::AnonymousHuge));
        assert_eq!(
            what(11, 0x9000, 0x1000, 0),
            Ok(What::Moved { from: 0x1000, to: 0x9000, bytes: 0 })
        );
        assert_eq!(what(12, 0, 0, 0), Ok(What::OomVictim));
        assert_eq!(what(9, 0, 0, 0), Err(Malformed::UnknownKind(9)));
        let made = What::Allocation { address: 0x5000, bytes: 4096, intervals: 2 };
        assert_eq!(what(13, allocation_value(4096, 2), 0x5000, 0), Ok(made));
        assert_eq!(what(14, 0, 0x5000, 0), Ok(What::Free { address: 0x5000 }));
    }

    #[test]
    fn counts_that_do_not_fit() {
        let mut bytes = record(1, &[1], &[], 0, 0, 0);
        bytes.truncate(HEADER_BYTES + 7);
        assert_eq!(decode(&bytes), Err(Malformed::Short));
        bytes.truncate(HEADER_BYTES - 1);
        assert_eq!(decode(&bytes), Err(Malformed::Short));
        assert_eq!(
            decode(&record(1, &[0; MAX_USER_FRAMES + 1], &[], 0, 0, 0)),
            Err(Malformed::TooManyFrames)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            // Either answer is right; not panicking is the point.
            let _ = decode(&bytes);
        }

        #[test]
        fn what_was_written_is_read(
            user in proptest::collection::vec(any::<u64>(), 0..=MAX_USER_FRAMES),
            kernel in proptest::collection::vec(any::<u64>(), 0..=MAX_KERNEL_FRAMES),
        ) {
            let observation = decode(&record(1, &user, &kernel, 0, 0, 0)).unwrap();
            prop_assert_eq!(&*observation.stack.user, &user[..]);
            prop_assert_eq!(&*observation.stack.kernel, &kernel[..]);
        }
    }
}
