//! The memory that a walk reads: so that another unwinder can be given the same.

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_probe_read_user, bpf_ringbuf_output},
};
use holmes_common::{
    counter::Counter,
    record::{RecordHeader, RecordKind, STACK_COPY_BYTES, StackCopy},
};

use super::walk::Walk;
use crate::{
    maps::{COPIES, RECORDS},
    stats::count,
};

/// The unit in which memory can be missing.
const PAGE: usize = 4096;

/// A copy under construction. Behind it there is room for a page, because the verifier does not see
/// that the last piece ends where it should.
#[repr(C)]
pub struct CopyRoom {
    copy: StackCopy,
    overhang: [u8; PAGE],
}

/// Wakes nobody: the sample that follows does.
const NO_WAKEUP: u64 = 1;

/// Sends the memory above the leaf's stack pointer, as far as it can be read.
#[inline(always)]
pub fn send(header: &RecordHeader, walk: &Walk) {
    let Some(room) = COPIES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: only the chain of samples is here, which does not interrupt itself.
    let copy = unsafe { &mut (*room).copy };
    copy.header = *header;
    copy.header.kind = RecordKind::StackCopy as u16;
    copy.header.user_frames = 0;
    copy.header.kernel_frames = 0;
    [copy.ip, copy.sp, copy.bp] = walk.leaf;
    let bytes = copy.bytes.as_mut_ptr();
    let mut done = 0;
    // One piece more than there are pages: the first one begins anywhere.
    for _ in 0..=STACK_COPY_BYTES / PAGE {
        if done >= STACK_COPY_BYTES {
            break;
        }
        let from = copy.sp.wrapping_add(done as u64);
        let piece = PAGE - (from as usize & (PAGE - 1));
        // SAFETY: `done` is inside the copy, and a page fits behind it.
        let failed = unsafe {
            bpf_probe_read_user(
                bytes.add(done & (STACK_COPY_BYTES - 1)).cast(),
                piece as u32 & (2 * PAGE as u32 - 1),
                from as *const c_void,
            )
        };
        if failed != 0 {
            break;
        }
        done += piece;
    }
    copy.length = if done > STACK_COPY_BYTES { STACK_COPY_BYTES as u64 } else { done as u64 };
    // SAFETY: the record is as large as the room.
    let sent = unsafe {
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast(),
            (&raw mut *copy).cast(),
            size_of::<StackCopy>() as u64,
            NO_WAKEUP,
        )
    };
    if sent < 0 {
        count(Counter::CopiesRingFull);
    }
}

const _: () = assert!(STACK_COPY_BYTES.is_power_of_two());
