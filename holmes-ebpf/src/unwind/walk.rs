//! Frame after frame, from the leaf up.

use aya_ebpf::cty::c_void;
use holmes_common::{
    limits::{FRAMES_PER_STEP, MAX_USER_FRAMES},
    record::flag,
    unwind::{LEAF_REGISTERS, WalkEnd},
    walk::{Frame, Next},
};

use super::{Chain, FINISH, STEP, registers::Registers, rules, stack_window::StackWindow, table};
use crate::{
    record::{self, Scratch},
    stats::count,
};

/// A walk under way.
#[repr(C)]
pub struct Walk {
    /// Where it is.
    pub frame: Frame,
    /// The leaf's registers by DWARF number, if `has_registers`.
    pub registers: [u64; LEAF_REGISTERS],
    /// What `ip`, `sp` and `bp` were at the leaf.
    pub leaf: [u64; 3],
    /// First address of the mapping that the last frame was in.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its `Mapping::bias`.
    pub bias: u64,
    /// Its `Exe::first_page`.
    pub first_page: u32,
    /// Its `Exe::pages`; 0 without a table.
    pub pages: u32,
    /// Its `Exe::base_page`.
    pub base_page: u32,
    /// The time, as in `Exe::last_used`.
    pub now: u32,
    /// Frames written.
    pub frames: u32,
    /// Its table is not there.
    pub table_wanted: bool,
    /// `registers` are the leaf's.
    pub has_registers: bool,
    /// The record is to have a kernel stack.
    pub with_kernel: bool,
    /// User space should come at once: it does not know the process yet.
    pub wake: bool,
    /// What is known of the stack's memory.
    pub window: StackWindow,
}

impl Walk {
    /// Begins at the leaf. `time_ns` is the record's.
    #[inline(always)]
    pub fn begin(&mut self, registers: &Registers, time_ns: u64) {
        let Registers { ip, sp, bp, link, in_call } = *registers;
        self.frame = Frame { ip, sp, bp, link, behind: in_call != 0, ..Frame::default() };
        self.leaf = [ip, sp, bp];
        self.length = 0;
        self.now = (time_ns >> 30) as u32;
        self.frames = 0;
        self.table_wanted = false;
        self.has_registers = false;
        self.window.bytes = 0;
    }
}

/// Walks a few frames, and calls the next program.
#[inline(always)]
pub fn step(ctx: *mut c_void, chain: &Chain) -> u32 {
    let Some(scratch) = record::scratch(chain.slot) else {
        count(chain.stream.no_scratch());
        return 0;
    };
    // SAFETY: the slot is this chain's own, and a chain does not interrupt itself.
    let scratch = unsafe { &mut *scratch };
    for _ in 0..FRAMES_PER_STEP {
        if let Next::End(end) = frame(scratch) {
            end_walk(scratch, end);
            return call(ctx, chain, FINISH);
        }
    }
    call(ctx, chain, STEP)
}

/// Goes on in another program of the chain. Returns only if that fails.
#[inline(always)]
pub fn call(ctx: *mut c_void, chain: &Chain, program: u32) -> u32 {
    let ctx = Context(ctx);
    // SAFETY: nothing here needs to be dropped.
    unsafe { chain.programs.tail_call(&ctx, program) };
    count(chain.stream.no_chain());
    record::drop_scratch(chain.slot);
    0
}

/// A program's context, whatever its type.
struct Context(*mut c_void);

impl aya_ebpf::EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// Notes how the walk has ended.
#[inline(always)]
fn end_walk(scratch: &mut Scratch, end: WalkEnd) {
    scratch.header.walk_end = end as u16;
    if !matches!(end, WalkEnd::Outermost) {
        scratch.header.stopped_at = scratch.walk.frame.ip;
    }
    if matches!(end, WalkEnd::FrameLimit) {
        scratch.header.flags |= flag::USER_STACK_TRUNCATED;
    }
}

/// Writes the current frame, and goes to its caller.
#[inline(always)]
fn frame(scratch: &mut Scratch) -> Next {
    let walk = &mut scratch.walk;
    let at = walk.frames as usize;
    if at >= MAX_USER_FRAMES {
        return Next::End(WalkEnd::FrameLimit);
    }
    let pc = walk.frame.ip.wrapping_sub(u64::from(walk.frame.behind));
    let mapped = table::enter_mapping(walk, scratch.header.tgid, pc);
    if !mapped {
        // The leaf is true wherever it is. Anything else that is no code was not a caller.
        if at == 0 {
            scratch.frames[0] = walk.frame.ip;
            walk.frames = 1;
        }
        return Next::End(if walk.frame.by_frame_pointer && walk.table_wanted {
            WalkEnd::NoTable
        } else if walk.frame.by_frame_pointer {
            WalkEnd::NoFramePointer
        } else {
            WalkEnd::Unmapped
        });
    }
    // The mask repeats what was checked, in a form that the verifier keeps.
    scratch.frames[at & MAX_USER_FRAMES] =
        walk.frame.ip.wrapping_add(u64::from(walk.frame.interrupted));
    walk.frames = at as u32 + 1;
    if walk.table_wanted {
        scratch.header.flags |= flag::TABLE_WANTED;
    }
    let row = table::row(walk, pc);
    let next = rules::caller(walk, row);
    if walk.frame.by_frame_pointer {
        scratch.header.flags |= flag::FRAME_POINTERS;
    }
    match next {
        // Frame pointers that stood in for a table may have missed a caller, wherever they led to.
        Next::End(WalkEnd::NoFramePointer | WalkEnd::Outermost)
            if scratch.header.flags & flag::TABLE_WANTED != 0 =>
        {
            Next::End(WalkEnd::NoTable)
        }
        next => next,
    }
}

// A mask is a bound only where the limit is one less than a power of two.
const _: () = assert!((MAX_USER_FRAMES + 1).is_power_of_two());
