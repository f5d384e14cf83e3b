//! The frames of one goroutine's stack, from a copy of it.
//!
//! By Go's own tables of how far each function has moved the stack pointer, as its own tracebacks do:
//! frame pointers would leave out functions that have none, and are not kept where a goroutine enters a
//! system call before Go 1.23.
//!
//! Must not: read memory, or go up for ever: each step goes towards the stack's end.

use std::collections::HashMap;

use super::goroutine::StackEnd;
use crate::binary::{GoFunction, GoTable, u64_at};

/// Frames of a stack. Go's own profiles have 128, the innermost, but what a deep recursion began with is
/// outermost.
pub(super) const MAX_FRAMES: usize = 4096;

/// Addresses whose frame is remembered; a program's goroutines are at some thousand. Beyond, all are
/// forgotten.
const MAX_PLACES: usize = 1 << 16;

/// Frames that are walked in one snapshot: a second's work. A million goroutines with 32 frames each; what a
/// wild pointer makes of stacks has no end by itself. Beyond, stacks are cut.
const MAX_WALKED: u64 = 1 << 25;

/// So many frames are as much work as to look up an address that is not remembered.
const LOOK_UP: u64 = 64;

/// Functions that look as if they were called where a program was interrupted: what is behind them on the
/// stack is no return address.
pub(super) const INJECTED: [&str; 4] =
    ["runtime.sigpanic", "runtime.asyncPreempt", "runtime.debugCallV1", "runtime.debugCallV2"];

/// What is known of an address in code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// How far up the caller's stack pointer is; `None` for the outermost function.
    pub(super) up: Option<u64>,
    /// Its caller was interrupted there.
    pub(super) is_injected: bool,
    /// It is where the function begins: nothing was called yet.
    pub(super) is_entry: bool,
}

/// The code that stacks lead through. Tests have code of their own.
pub(super) trait Code {
    /// What is known of an address; `None` outside Go's code.
    fn place(&mut self, pc: u64) -> Option<Place>;

    /// Whether goroutines that begin at an address are the runtime's own.
    fn is_system(&mut self, start: u64) -> bool;
}

/// Where a stack is, and what was read of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackCopy<'a> {
    /// The program counter.
    pub(super) pc: u64,
    /// The memory from the stack pointer on.
    pub(super) bytes: &'a [u8],
    /// Bytes from there to the stack's end: more than `bytes` where not all was read.
    pub(super) whole: usize,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    Stack(StackEnd),
    /// More of the stack has to be read.
    NeedsMore,
}

/// Walks the stacks of one process.
pub(super) struct Walker<C> {
    code: C,
    /// The target chooses the addresses: not by a fast hash.
    places: HashMap<u64, Option<Place>>,
    /// Whether goroutines that begin there are the runtime's own.
    starts: HashMap<u64, bool>,
    /// Of [`MAX_WALKED`].
    left: u64,
}

impl<C: Code> Walker<C> {
    pub(super) fn new(code: C) -> Self {
        Self { code, places: HashMap::new(), starts: HashMap::new(), left: MAX_WALKED }
    }

    /// Puts the return addresses of a stack into `frames`, innermost first; each is behind the call, also
    /// the first.
    pub(super) fn walk(&mut self, stack: StackCopy<'_>, frames: &mut Vec<u64>) -> WalkEnd {
        frames.clear();
        let (mut pc, mut at) = (stack.pc, 0_usize);
        let mut was_interrupted = false;
        loop {
            if self.left == 0 {
                return WalkEnd::Stack(StackEnd::Cut);
            }
            self.left -= 1;
            let Some(place) = self.place(pc) else { return WalkEnd::Stack(StackEnd::Broken) };
            // What was interrupted, or not begun, is at this very instruction.
            let is_exact = was_interrupted || place.is_entry;
            frames.push(pc.wrapping_add(u64::from(is_exact)));
            let Some(up) = place.up else { return WalkEnd::Stack(StackEnd::Whole) };
            if frames.len() >= MAX_FRAMES {
                return WalkEnd::Stack(StackEnd::Cut);
            }
            at = at.saturating_add(usize::try_from(up).unwrap_or(usize::MAX));
            if at > stack.whole {
                return WalkEnd::Stack(StackEnd::Broken);
            }
            if at > stack.bytes.len() {
                return WalkEnd::NeedsMore;
            }
            pc = u64_at(stack.bytes, at - 8);
            was_interrupted = place.is_injected;
        }
    }

    /// What is known of an address; `None` outside Go's code.
    fn place(&mut self, pc: u64) -> Option<Place> {
        if let Some(known) = self.places.get(&pc) {
            return *known;
        }
        self.left = self.left.saturating_sub(LOOK_UP);
        let place = self.code.place(pc);
        if self.places.len() >= MAX_PLACES {
            self.places.clear();
        }
        self.places.insert(pc, place);
        place
    }

    /// Whether a goroutine that began at an address is the runtime's own; none is where there is no end of
    /// addresses.
    pub(super) fn is_system(&mut self, start: u64) -> bool {
        if let Some(&known) = self.starts.get(&start) {
            return known;
        }
        if self.left == 0 {
            return false;
        }
        self.left = self.left.saturating_sub(LOOK_UP);
        let answer = self.code.is_system(start);
        if self.starts.len() >= MAX_PLACES {
            self.starts.clear();
        }
        self.starts.insert(start, answer);
        answer
    }

    /// Whether an address is in Go's code; what there was no time to look at counts as such.
    pub(super) fn is_code(&mut self, pc: u64) -> bool {
        self.left == 0 || self.place(pc).is_some()
    }
}

/// The code of a program, by its function table.
pub(super) struct TableCode<'t, 'a> {
    table: &'t mut GoTable<'a>,
    bias: u64,
}

impl<'t, 'a> TableCode<'t, 'a> {
    /// `bias` is added to addresses as they were linked.
    pub(super) fn new(table: &'t mut GoTable<'a>, bias: u64) -> Self {
        Self { table, bias }
    }
}

impl Code for TableCode<'_, '_> {
    fn place(&mut self, pc: u64) -> Option<Place> {
        let address = pc.wrapping_sub(self.bias);
        // A part of the table that is malformed is as good as none.
        let function: GoFunction = self.table.function_at(address).ok()??;
        let up = self.table.goroutine_frame(&function, address).ok()?;
        if up.is_none() && !function.is_top {
            return None;
        }
        let is_injected =
            self.table.name(&function).is_ok_and(|name| INJECTED.contains(&name.as_str()));
        Some(Place { up: up.map(u64::from), is_injected, is_entry: address == function.entry })
    }

    fn is_system(&mut self, start: u64) -> bool {
        is_system(self.table, start.wrapping_sub(self.bias))
    }
}

/// Whether goroutines that begin at an address, as linked, are the runtime's own: those that Go leaves out
/// of its profiles. Finalizers and clean-ups of the program run in such ones; they count as the runtime's
/// also while they do.
pub(super) fn is_system(table: &mut GoTable<'_>, start: u64) -> bool {
    // A place without a name is not the runtime's.
    let function = table.function_at(start).ok().flatten();
    let name = function.and_then(|function| table.name(&function).ok());
    name.is_some_and(|name| is_system_name(&name))
}

/// As `runtime.isSystemGoroutine`.
fn is_system_name(start: &str) -> bool {
    const OF_PROGRAMS: [&str; 3] =
        ["runtime.main", "runtime.handleAsyncEvent", "runtime.corostart"];
    start.starts_with("runtime.") && !OF_PROGRAMS.contains(&start)
}

#[cfg(test)]
mod tests {
    use super::super::fuzzing::AnyCode;
    use super::*;

    /// Stacks that lead from one frame of 16 bytes to the next.
    #[test]
    fn all_stacks_together_have_an_end() {
        const PLAIN: u64 = 0x40_0021;
        let bytes: Vec<u8> = std::iter::repeat_n(PLAIN.to_le_bytes(), 200).flatten().collect();
        let stack = StackCopy { pc: PLAIN, bytes: &bytes, whole: bytes.len() };
        let mut walker = Walker::new(AnyCode);
        let mut frames = Vec::new();
        walker.left = LOOK_UP + 150;
        assert_eq!(walker.walk(stack, &mut frames), WalkEnd::Stack(StackEnd::Broken));
        assert_eq!(frames.len(), 101);
        assert_eq!(walker.walk(stack, &mut frames), WalkEnd::Stack(StackEnd::Cut));
        assert_eq!(frames.len(), 49);
        assert!(walker.is_code(0x77) && !walker.is_system(1), "nothing more is looked up");
        assert!(!Walker::new(AnyCode).is_code(0x77) && Walker::new(AnyCode).is_system(1));
    }

    #[test]
    fn the_goroutines_of_the_runtime() {
        for (name, system) in [
            ("runtime.gcBgMarkWorker", true),
            ("runtime.forcegchelper", true),
            ("runtime.main", false),
            ("runtime.corostart", false),
            ("main.main.func1", false),
            ("runtime/pprof.profileWriter", false),
        ] {
            assert_eq!(is_system_name(name), system, "{name}");
        }
    }
}
