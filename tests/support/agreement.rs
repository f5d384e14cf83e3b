//! Two unwinders' answers, side by side.
//!
//! Must not: decide how much agreement is enough.

use std::collections::BTreeMap;
use std::fmt;

use crate::oracle::{Answer, Oracle, Silence};
use crate::stack_copies::StackCopy;

/// How many disagreements are told in full.
const MOST_TOLD: usize = 5;

/// What a comparison of many stacks came to.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Stacks.
    pub samples: usize,
    /// Frames on which both had an answer.
    pub frames: usize,
    /// Stacks on which the two contradict each other.
    pub contradictions: usize,
    /// How the probes' walks ended.
    pub ends: BTreeMap<String, usize>,
    /// Why the oracle fell silent.
    pub silences: BTreeMap<Silence, usize>,
    /// Stacks whose outermost frame both have found, and that are the same.
    pub whole_and_same: usize,
    told: Vec<String>,
}

impl Agreement {
    /// Compares every stack.
    pub fn of(copies: &[StackCopy], oracle: &mut Oracle) -> Self {
        let mut agreement = Self::default();
        for copy in copies {
            let answer = oracle.unwind(copy);
            agreement.add(copy, &answer, oracle);
        }
        agreement
    }

    fn add(&mut self, copy: &StackCopy, answer: &Answer, oracle: &Oracle) {
        self.samples += 1;
        *self.ends.entry(copy.end.clone()).or_default() += 1;
        *self.silences.entry(answer.silence).or_default() += 1;
        let both = copy.frames.len().min(answer.frames.len());
        self.frames += both;
        let whole = copy.end == "outermost";
        if copy.frames == answer.frames && whole && answer.silence == Silence::Outermost {
            self.whole_and_same += 1;
        }
        if let Some(why) = contradiction(copy, answer) {
            self.contradictions += 1;
            if self.told.len() < MOST_TOLD {
                let from = why.saturating_sub(2);
                let name = |frames: &[u64]| {
                    let part = frames.iter().skip(from).take(6);
                    part.map(|&frame| oracle.name(frame)).collect::<Vec<_>>().join(" ")
                };
                self.told.push(format!(
                    "frame {why}: {} of {} frames: {}\n        oracle {:?} of {} frames: {}",
                    copy.end,
                    copy.frames.len(),
                    name(&copy.frames),
                    answer.silence,
                    answer.frames.len(),
                    name(&answer.frames),
                ));
            }
        }
    }

    /// Stacks that end at a rule which needs a register that is in no row of a table and in no copy:
    /// neither unwinder can go on. Functions have such rules where they set up or take down an
    /// unusual frame, hand-written assembly throughout.
    pub fn other_register(&self) -> usize {
        let unsupported = self.ends.get("unsupported_rule").copied().unwrap_or(0);
        unsupported.min(self.silences.get(&Silence::OtherRegister).copied().unwrap_or(0))
    }

    /// The share of stacks that the probes walked to the outermost frame, in percent.
    pub fn percent_whole(&self) -> f64 {
        self.percent_whole_of(self.samples)
    }

    /// The same without those of [`Agreement::other_register`].
    pub fn percent_whole_where_possible(&self) -> f64 {
        self.percent_whole_of(self.samples - self.other_register())
    }

    #[allow(clippy::cast_precision_loss)] // counts of a few seconds
    fn percent_whole_of(&self, samples: usize) -> f64 {
        let whole = self.ends.get("outermost").copied().unwrap_or(0);
        100.0 * whole as f64 / samples.max(1) as f64
    }
}

/// The first frame on which the two contradict each other: another address, or one of them is at
/// the outermost frame where the other goes on.
fn contradiction(copy: &StackCopy, answer: &Answer) -> Option<usize> {
    let pairs = copy.frames.iter().zip(&answer.frames);
    if let Some(at) = pairs.clone().position(|(ours, theirs)| ours != theirs) {
        return Some(at);
    }
    let (ours, theirs) = (copy.frames.len(), answer.frames.len());
    let early = copy.end == "outermost" && ours < theirs;
    let late = answer.silence == Silence::Outermost && theirs < ours;
    (early || late).then_some(ours.min(theirs))
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} stacks, {} frames compared, {} contradictions, {:.2} % whole, {} whole and the \
             same; walks {:?}, oracle {:?}",
            self.samples,
            self.frames,
            self.contradictions,
            self.percent_whole(),
            self.whole_and_same,
            self.ends,
            self.silences
        )?;
        for told in &self.told {
            write!(f, "\n    {told}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(end: &str, frames: &[u64]) -> StackCopy {
        StackCopy {
            pid: 1,
            end: end.to_owned(),
            stopped_at: 0,
            flags: 0,
            frames: frames.to_vec(),
            ip: 1,
            sp: 0,
            bp: 0,
            memory: Vec::new(),
        }
    }

    #[test]
    fn a_contradiction_is_another_frame_or_another_end() {
        let answer = |silence, frames: &[u64]| Answer { frames: frames.to_vec(), silence };
        let found = |end, ours: &[u64], silence, theirs: &[u64]| {
            contradiction(&copy(end, ours), &answer(silence, theirs))
        };
        assert_eq!(found("outermost", &[1, 2], Silence::Outermost, &[1, 2]), None);
        assert_eq!(found("outermost", &[1, 2, 3], Silence::BeyondCopy, &[1, 2]), None);
        assert_eq!(found("no_table", &[1], Silence::Outermost, &[1, 2]), None);
        assert_eq!(found("outermost", &[1, 9], Silence::BeyondCopy, &[1, 2]), Some(1));
        assert_eq!(found("outermost", &[1], Silence::BeyondCopy, &[1, 2]), Some(1));
        assert_eq!(found("unmapped", &[1, 2, 3], Silence::Outermost, &[1, 2]), Some(2));
    }
}
