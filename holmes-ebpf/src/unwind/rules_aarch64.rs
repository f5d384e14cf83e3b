//! From a frame to its caller, on arm64.

use holmes_common::{
    unwind::Row,
    walk::{Next, aarch64},
};

use super::walk::{Own, Walk};
use crate::globals::POINTER_CODE_MASK;

/// Takes the walk to the caller.
#[inline(always)]
pub(super) fn caller(walk: &mut Walk, row: Row) -> Next {
    aarch64::caller(&mut walk.frame, row, &mut Own, POINTER_CODE_MASK.load())
}
