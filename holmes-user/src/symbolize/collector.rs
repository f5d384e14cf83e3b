//! The answers for one file, as they come in, within the memory that names of one incident may
//! take.
//!
//! Must not: know who answers.

use super::elf::Answer;
use super::stats::Unnamed;

/// Bytes of names in one incident. A full one has about 1 MiB; a hostile file can have a name of
/// kilobytes for every byte of code.
pub(super) const MAX_NAMES_BYTES: usize = 32 << 20;
/// What a line takes beside its texts.
const LINE_BYTES: usize = 64;

/// The answers for one file.
#[derive(Debug)]
pub(super) struct Collector {
    answers: Vec<Answer>,
    room: usize,
}

impl Collector {
    /// With this many bytes left for names.
    pub(super) const fn new(room: usize) -> Self {
        Self { answers: Vec::new(), room }
    }

    /// Takes the next answer; a name that does not fit becomes a place without one.
    pub(super) fn add(&mut self, answer: Answer) {
        let answer = answer.and_then(|(by, named)| {
            let texts = named.lines.iter().map(|line| line.function.len() + line.file.len());
            let size = texts.map(|bytes| bytes + LINE_BYTES).sum();
            self.room = self.room.checked_sub(size).ok_or(Unnamed::NamesFull)?;
            Ok((by, named))
        });
        self.answers.push(answer);
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Gives all places up to this many the same answer.
    pub(super) fn fill(&mut self, count: usize, cause: Unnamed) {
        self.answers.resize(count.max(self.answers.len()), Err(cause));
    }

    /// The answers, and the bytes that are left.
    pub(super) fn finish(self) -> (Vec<Answer>, usize) {
        (self.answers, self.room)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::stats::NamedBy;
    use super::super::table::{Line, Named};
    use super::*;

    #[test]
    fn names_beyond_the_room_are_counted_and_not_kept() {
        let line = Line { function: "f".repeat(100).into(), file: "".into(), line: 0 };
        let named = Arc::new(Named { lines: vec![line], module: String::new() });
        let mut collector = Collector::new(2 * (100 + LINE_BYTES) + 1);
        for _ in 0..3 {
            collector.add(Ok((NamedBy::Elf, named.clone())));
        }
        collector.fill(5, Unnamed::OutOfTime);
        let (answers, room) = collector.finish();
        let causes: Vec<_> = answers.into_iter().map(Result::err).collect();
        let full = Some(Unnamed::NamesFull);
        let late = Some(Unnamed::OutOfTime);
        assert_eq!((causes, room), (vec![None, None, full, late, late], 1));
    }
}
