//! From a frame and its row to the caller, on x86-64.
//!
//! The return address is the word below the canonical frame address (CFA); the frame pointer
//! register, where a function saves it, is most often the word below that: both are read at once.
//!
//! Layout of a signal's frame: `struct ucontext` of the kernel's `asm/ucontext.h`, `sigcontext.h`.

use super::{Frame, Memory, Next};
use crate::unwind::{BpKind, CFA_UNIT, CfaKind, LEAF_REGISTER_BITS, LEAF_REGISTERS, Row, WalkEnd};

/// Offset in `ucontext` of the saved rbp, the first of the words read; rsp and rip follow at 5 and 6.
const CONTEXT_BP: u64 = 120;

/// Instructions of a procedure linkage table's entry begin at multiples of this.
const PLT_ENTRY: u64 = 16;

/// Takes the walk to the caller. `leaf` knows the registers of the leaf by DWARF number, as long as the walk is
/// there.
#[inline(always)]
pub fn caller(
    walk: &mut Frame,
    row: Row,
    memory: &mut impl Memory,
    leaf: impl FnOnce(usize) -> Option<u64>,
) -> Next {
    let offset = u64::from(row.cfa_offset);
    let signed = row.cfa_offset as i16 as i64 as u64;
    let kind = row.cfa_kind;
    let cfa = if kind == CfaKind::StackPointer as u8 {
        walk.sp.wrapping_add(offset * CFA_UNIT)
    } else if kind == CfaKind::FramePointer as u8 {
        return by_frame_pointer(walk, memory, false);
    } else if kind == CfaKind::BasePointer as u8 {
        if walk.bp_lost {
            return Next::End(WalkEnd::LostBasePointer);
        }
        walk.bp.wrapping_add(offset * CFA_UNIT)
    } else if kind == CfaKind::Stop as u8 {
        return Next::End(WalkEnd::Outermost);
    } else if kind == CfaKind::Plt as u8 {
        let pushed = if walk.ip & (PLT_ENTRY - 1) >= offset { 8 } else { 0 };
        walk.sp.wrapping_add(8 + pushed)
    } else if kind == CfaKind::Signal as u8 {
        return interrupted(walk, memory);
    } else if kind == CfaKind::DerefBasePointer as u8 {
        if walk.bp_lost {
            return Next::End(WalkEnd::LostBasePointer);
        }
        match memory.word(walk.bp.wrapping_add(signed)) {
            Some(cfa) => cfa,
            None => return Next::End(WalkEnd::Unreadable),
        }
    } else if kind == CfaKind::DerefStackPointer as u8
        || kind == CfaKind::DerefStackPointerPlus8 as u8
    {
        let plus = if kind == CfaKind::DerefStackPointer as u8 { 0 } else { 8 };
        match memory.word(walk.sp.wrapping_add(signed)) {
            Some(cfa) => cfa.wrapping_add(plus),
            None => return Next::End(WalkEnd::Unreadable),
        }
    } else if kind == CfaKind::LeafRegister as u8 {
        let Some(register) = leaf(row.cfa_offset as usize & (LEAF_REGISTERS - 1)) else {
            return Next::End(WalkEnd::UnsupportedRule);
        };
        let units = u64::from(row.cfa_offset >> LEAF_REGISTER_BITS);
        register.wrapping_add(units * CFA_UNIT)
    } else if kind == CfaKind::FramePointerElsewhere as u8 {
        return by_frame_pointer(walk, memory, true);
    } else {
        return Next::End(WalkEnd::UnsupportedRule);
    };

    if cfa <= walk.sp {
        return Next::End(WalkEnd::NotAbove);
    }
    let Some([below, return_address]) = memory.words::<2>(cfa.wrapping_sub(16)) else {
        return Next::End(WalkEnd::Unreadable);
    };
    let bp_offset = row.bp_offset as i64 as u64;
    if row.bp_kind == BpKind::AtCfa as u8 {
        if row.bp_offset == -16 {
            walk.bp = below;
        } else {
            match memory.word(cfa.wrapping_add(bp_offset)) {
                Some(bp) => walk.bp = bp,
                None => return Next::End(WalkEnd::Unreadable),
            }
        }
        walk.bp_lost = false;
    } else if row.bp_kind == BpKind::AtBasePointer as u8 {
        match memory.word(walk.bp.wrapping_add(bp_offset)) {
            Some(bp) => walk.bp = bp,
            None => return Next::End(WalkEnd::Unreadable),
        }
    } else if row.bp_kind == BpKind::Lost as u8 {
        walk.bp_lost = true;
    }
    returned(walk, return_address, cfa)
}

/// The chain of frame pointers: the caller's, and the return address behind it. With `elsewhere`
/// it may lead to another stack.
#[inline(always)]
fn by_frame_pointer(walk: &mut Frame, memory: &mut impl Memory, elsewhere: bool) -> Next {
    let by_chain = walk.by_frame_pointer;
    walk.by_frame_pointer = true;
    // A frame that was found otherwise need not have set the register: it may be anything.
    if walk.bp == 0 && by_chain {
        // What the psABI asks of the outermost frame.
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
    let next = returned(walk, return_address, sp);
    walk.by_frame_pointer = true;
    next
}

/// The frame that a signal has interrupted: its registers are on the signal's stack.
#[inline(always)]
fn interrupted(walk: &mut Frame, memory: &mut impl Memory) -> Next {
    let Some([bp, _, _, _, _, sp, ip]) = memory.words::<7>(walk.sp.wrapping_add(CONTEXT_BP)) else {
        return Next::End(WalkEnd::Unreadable);
    };
    walk.bp = bp;
    walk.bp_lost = false;
    walk.sp = sp;
    walk.ip = ip;
    // It was not in a call: it was anywhere.
    walk.behind = false;
    walk.interrupted = true;
    walk.by_frame_pointer = false;
    Next::Caller
}

#[inline(always)]
fn returned(walk: &mut Frame, return_address: u64, sp: u64) -> Next {
    if return_address == 0 {
        // Nothing to return to: threads and fibres are begun like this.
        return Next::End(WalkEnd::Outermost);
    }
    walk.ip = return_address;
    walk.sp = sp;
    walk.behind = true;
    walk.interrupted = false;
    walk.by_frame_pointer = false;
    Next::Caller
}
