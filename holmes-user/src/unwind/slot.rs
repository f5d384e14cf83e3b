//! What is known of one executable.
//!
//! Must not: change by itself.

use std::sync::{Arc, Weak};

use super::compile::Layout;
use super::space::Range;
use crate::collect::Nanos;
use crate::process::{Object, ObjectKind};

/// What identifies an executable. The size tells apart what was stripped or prelinked afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Build { id: String, size: u64 },
    Object(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has no table now.
    Absent,
    /// One is being made.
    Queued,
    /// The table is there.
    Present,
    /// There is nothing to make one of.
    None,
}

/// An executable that has a number.
pub(super) struct Slot {
    pub(super) key: Key,
    /// Which of the number's users this is.
    pub(super) user: u64,
    /// A file of it, while a process has it mapped.
    pub(super) object: Weak<Object>,
    /// Known once it was compiled.
    pub(super) layout: Option<Layout>,
    pub(super) state: State,
    pub(super) rows: Range,
    pub(super) pages: Range,
    pub(super) base_page: u32,
    pub(super) published_at: Nanos,
    /// Mappings that refer to it.
    pub(super) references: u32,
    pub(super) idle_since: Nanos,
    pub(super) retry_at: Nanos,
}

impl Slot {
    pub(super) fn new(key: Key, user: u64, object: &Arc<Object>, now: Nanos) -> Self {
        Self {
            key,
            user,
            object: Arc::downgrade(object),
            layout: None,
            state: State::Absent,
            rows: Range::default(),
            pages: Range::default(),
            base_page: 0,
            published_at: Nanos::default(),
            references: 0,
            idle_since: now,
            retry_at: Nanos::default(),
        }
    }
}

impl Key {
    /// `None` for a file that is not open.
    pub(super) fn of(object: &Object) -> Option<Self> {
        if object.kind == ObjectKind::Vdso {
            return Some(Self::Object(object.number));
        }
        let file = object.file.as_ref()?;
        match file.metadata() {
            Ok(metadata) if !object.build_id.is_empty() => {
                Some(Self::Build { id: object.build_id.clone(), size: metadata.len() })
            }
            _ => Some(Self::Object(object.number)),
        }
    }
}
