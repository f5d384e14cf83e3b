//! From a frame to its caller, on x86-64.

use holmes_common::{
    unwind::Row,
    walk::{Next, x86_64},
};

use super::{stack_window::Own, walk::Walk};

/// Takes the walk to the caller.
#[inline(always)]
pub(super) fn caller(walk: &mut Walk, row: Row) -> Next {
    let Walk { frame, registers, frames, has_registers, window, .. } = walk;
    let at_leaf = *frames == 1 && *has_registers;
    let mut memory = Own { window };
    x86_64::caller(frame, row, &mut memory, |register| at_leaf.then(|| registers[register]))
}
