//! From a frame and its row to the caller, on arm64.
//!
//! A function that calls others stores frame pointer and link register side by side; in a leaf, and
//! in a prologue, the return address is still in the link register. Return addresses may be signed:
//! the signature is in bits that no address uses, and is taken off.
//!
//! Layout of a signal's frame: `struct rt_sigframe` of the kernel's `arch/arm64/kernel/signal.c`.

use super::{Frame, Memory, Next};
use crate::unwind::{BpKind, CFA_UNIT, CfaKind, Row, WalkEnd};

/// Offset from the stack pointer of the saved x29, behind `siginfo` (128 bytes) and the head of
/// `ucontext` (176 bytes and the fault address); x30, sp and pc follow.
const CONTEXT_X29: u64 = 128 + 176 + 8 + 29 * 8;

/// Takes the walk to the caller. `code_mask` has the bits of an address that are its signature.
#[inline(always)]
pub fn caller(walk: &mut Frame, row: Row, memory: &mut impl Memory, code_mask: u64) -> Next {
    let offset = u64::from(row.cfa_offset);
    let signed = row.cfa_offset as i16 as i64 as u64;
    let kind = row.cfa_kind;
    let cfa = if kind == CfaKind::StackPointer as u8 {
        walk.sp.wrapping_add(offset * CFA_UNIT)
    } else if kind == CfaKind::FramePointer as u8 {
        return by_frame_pointer(walk, memory, false, code_mask);
    } else if kind == CfaKind::FramePointerElsewhere as u8 {
        return by_frame_pointer(walk, memory, true, code_mask);
    } else if kind == CfaKind::BasePointer as u8 {
        if walk.bp_lost {
            return Next::End(WalkEnd::LostBasePointer);
        }
        walk.bp.wrapping_add(offset * CFA_UNIT)
    } else if kind == CfaKind::Stop as u8 {
        return Next::End(WalkEnd::Outermost);
    } else if kind == CfaKind::Signal as u8 {
        return interrupted(walk, memory);
    } else if kind == CfaKind::DerefStackPointer as u8 {
        match memory.word(walk.sp.wrapping_add(signed)) {
            Some(cfa) => cfa,
            None => return Next::End(WalkEnd::Unreadable),
        }
    } else {
        return Next::End(WalkEnd::UnsupportedRule);
    };

    if row.bp_kind == BpKind::AtCfa as u8 {
        if cfa <= walk.sp {
            return Next::End(WalkEnd::NotAbove);
        }
        let pair = cfa.wrapping_add(row.bp_offset as i64 as u64);
        let Some([bp, return_address]) = memory.words::<2>(pair) else {
            return Next::End(WalkEnd::Unreadable);
        };
        walk.bp = bp;
        walk.bp_lost = false;
        return returned(walk, return_address, cfa, code_mask);
    }
    // The return address was not stored: so this frame has called nobody.
    if row.bp_kind != BpKind::Same as u8 || walk.link == 0 {
        return Next::End(WalkEnd::UnsupportedRule);
    }
    returned(walk, walk.link, cfa, code_mask)
}

/// The chain of frame pointers: the caller's, and the return address behind it. With `elsewhere`
/// it may lead to another stack.
#[inline(always)]
fn by_frame_pointer(
    walk: &mut Frame,
    memory: &mut impl Memory,
    elsewhere: bool,
    code_mask: u64,
) -> Next {
    let by_chain = walk.by_frame_pointer;
    walk.by_frame_pointer = true;
    // A frame that was found otherwise need not have set the register: it may be anything.
    if walk.bp == 0 && by_chain {
        // What the procedure call standard asks of the outermost frame.
        return Next::End(WalkEnd::Outermost);
    }
    if walk.bp_lost || (!elsewhere && walk.bp < walk.sp) {
        return Next::End(WalkEnd::NoFramePointer);
    }
    let Some([bp, return_address]) = memory.words::<2>(walk.bp) else {
        return Next::End(WalkEnd::NoFramePointer);
    };
    let sp = walk.bp.wrapping_add(16);
    walk.bp = bp;
    let next = returned(walk, return_address, sp, code_mask);
    walk.by_frame_pointer = true;
    next
}

/// The frame that a signal has interrupted: its registers are on the signal's stack.
#[inline(always)]
fn interrupted(walk: &mut Frame, memory: &mut impl Memory) -> Next {
    let Some([bp, link, sp, ip]) = memory.words::<4>(walk.sp.wrapping_add(CONTEXT_X29)) else {
        return Next::End(WalkEnd::Unreadable);
    };
    walk.bp = bp;
    walk.bp_lost = false;
    walk.link = link;
    walk.sp = sp;
    walk.ip = ip;
    // It was not in a call: it was anywhere.
    walk.behind = false;
    walk.interrupted = true;
    walk.by_frame_pointer = false;
    Next::Caller
}

#[inline(always)]
fn returned(walk: &mut Frame, return_address: u64, sp: u64, code_mask: u64) -> Next {
    let return_address = return_address & !code_mask;
    if return_address == 0 {
        // Nothing to return to: threads and fibres are begun like this.
        return Next::End(WalkEnd::Outermost);
    }
    walk.ip = return_address;
    walk.sp = sp;
    walk.link = 0;
    walk.behind = true;
    walk.interrupted = false;
    walk.by_frame_pointer = false;
    Next::Caller
}
