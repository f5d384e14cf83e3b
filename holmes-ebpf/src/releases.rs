//! Memory that a process gives back or moves, as far as faults were sampled in it: so that user space
//! knows what is no longer in use without having to look.

use holmes_common::{counter::Stream, record::RecordKind};

use crate::{
    faults::{mark_regions, may_hold_samples, shrunk},
    filter::Subject,
    record::Report,
};

/// Addresses of a process.
#[derive(Clone, Copy)]
pub struct Range {
    pub start: u64,
    pub bytes: u64,
}

impl Range {
    pub const EMPTY: Self = Self { start: 0, bytes: 0 };
}

/// The process whose `mm` this is gave back a range.
#[inline(always)]
pub fn released(subject: &Subject, mm: u64, Range { start, bytes }: Range) {
    shrunk(subject.tgid, mm, bytes);
    if may_hold_samples(subject.tgid, start, bytes) {
        report(RecordKind::Released, bytes as i64, start).send(subject);
    }
}

/// The process moved `bytes` from `from` to `to`.
#[inline(always)]
pub fn moved(subject: &Subject, from: u64, to: u64, bytes: u64) {
    if may_hold_samples(subject.tgid, from, bytes) {
        // What is given back there later must be noticed, too.
        mark_regions(subject.tgid, to, bytes);
        report(RecordKind::Moved, to as i64, from).send_with(subject, bytes);
    }
}

#[inline(always)]
fn report(kind: RecordKind, value: i64, aux: u64) -> Report {
    Report { stream: Stream::Releases, kind, flags: 0, value, aux }
}
