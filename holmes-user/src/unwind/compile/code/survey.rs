//! Finds functions, and those that never return, before any is followed: where a call does not return,
//! what is behind it is something else.
//!
//! Must not: know frames.

use rustc_hash::FxHashSet;

use super::explore::{Code, MAX_FUNCTION, MAX_PASSES, MAX_STARTS};
use super::flow::Flow;

impl Code<'_> {
    /// Finds what is called, before anything is followed: where a call does not return, the next
    /// function's first instruction is not reached from it.
    pub(super) fn find_starts(&mut self) {
        let mut work = self.waiting.clone();
        while let Some(address) = work.pop() {
            let Some((region, offset)) = self.place(address) else { continue };
            let mut decoder = self.decoder((region, offset));
            let mut place = (region, offset);
            while !self.marks.is_reached(place)
                && let Some(it) = self.decode(&mut decoder)
            {
                self.marks.see(place);
                place.1 += it.len();
                match Flow::of(&it) {
                    Flow::On | Flow::Call(None) => {}
                    Flow::Call(Some(target)) => {
                        if self.starts.len() < MAX_STARTS {
                            self.add_start(target);
                            work.push(target);
                        }
                    }
                    Flow::Branch(target) => work.push(target),
                    Flow::Jump(target) => {
                        work.push(target);
                        break;
                    }
                    Flow::ReturnElsewise => {
                        self.foreign.insert(region);
                        break;
                    }
                    Flow::Elsewhere | Flow::Return | Flow::End => break,
                }
            }
        }
        self.marks.clear();
    }

    /// Finds functions that never return: what is behind a call of theirs is something else.
    pub(super) fn find_endless(&mut self) {
        for _ in 0..MAX_PASSES {
            let before = self.endless.len();
            for start in self.starts.clone() {
                if !self.endless.contains(&start) && self.is_endless(start) {
                    self.endless.insert(start);
                }
            }
            if self.endless.len() == before {
                break;
            }
        }
    }

    /// Whether no way leads from there to the caller, or out of sight.
    fn is_endless(&mut self, start: u64) -> bool {
        let mut seen = FxHashSet::default();
        let mut work = vec![start];
        while let Some(address) = work.pop() {
            if address != start && self.starts.contains(&address) {
                if self.endless.contains(&address) {
                    continue;
                }
                return false;
            }
            let Some(place) = self.place(address) else { return false };
            let mut decoder = self.decoder(place);
            while seen.insert(decoder.ip()) {
                if seen.len() > MAX_FUNCTION {
                    return false;
                }
                let Some(it) = self.decode(&mut decoder) else { return false };
                match Flow::of(&it) {
                    Flow::On | Flow::Call(None) => {}
                    Flow::Call(Some(called)) if self.endless.contains(&called) => break,
                    Flow::Call(Some(_)) => {}
                    Flow::Branch(target) => work.push(target),
                    Flow::Jump(target) => {
                        work.push(target);
                        break;
                    }
                    Flow::End => break,
                    Flow::Elsewhere | Flow::Return | Flow::ReturnElsewise => return false,
                }
                if self.starts.contains(&decoder.ip()) {
                    return false; // It goes on in another.
                }
            }
        }
        true
    }
}
