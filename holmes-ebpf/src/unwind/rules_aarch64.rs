//! From a frame to its caller, on arm64.

use holmes_common::{
    unwind::Row,
    walk::{Next, aarch64},
};

use super::{stack_window::Own, walk::Walk};
use crate::globals::POINTER_CODE_MASK;

/// Takes the walk to the caller.
#[inline(always)]
pub(super) fn caller(walk: &mut Walk, row: Row) -> Next {
    let Walk { frame, window, .. } = walk;
    aarch64::caller(frame, row, &mut Own { window }, POINTER_CODE_MASK.load())
}
