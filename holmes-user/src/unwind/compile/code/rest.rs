//! Tries what is left when all known functions have been followed: the entries of jump tables, and
//! functions that nothing names.
//!
//! Must not: believe what does not prove itself.

use iced_x86::Mnemonic;

use super::entry::{LOOKED_AT, is_begun};
use super::explore::{ALIGNMENT, Code};
use super::flow::Flow;
use super::marks::Place;
use super::state::State;

/// Frames that one place is tried with. Functions have one or two jump tables' worth.
const MAX_TRIED: usize = 8;

/// Jumps of one function whose frames are compared: interpreters have one for each instruction, all
/// with the same.
const MAX_JUMPS: usize = 256;

impl Code<'_> {
    /// The offset of the first instruction from a place on that does something, or is known.
    pub(super) fn behind_padding(&mut self, (region, offset): Place) -> usize {
        let mut decoder = self.decoder((region, offset));
        let mut at = offset;
        while !self.marks.is_reached((region, at))
            && let Some(it) = self.decode(&mut decoder)
            && matches!(it.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
        {
            at += it.len();
        }
        at
    }

    /// Where the next function may begin, if a place is behind a function's end.
    pub(super) fn may_begin(&mut self, place: Place) -> Option<u64> {
        let next = (place.0, self.behind_padding(place));
        let mut decoder = self.decoder(next);
        self.left = self.left.saturating_sub(LOOKED_AT);
        let address = decoder.ip();
        let may = address.is_multiple_of(ALIGNMENT) && !is_begun(&mut decoder, &mut self.factory);
        may.then_some(address)
    }

    /// Tries what nothing known leads to; whether anything was found out.
    pub(super) fn try_what_is_left(&mut self) -> bool {
        let regions = self.regions;
        let mut found = false;
        for (number, region) in regions.iter().enumerate() {
            let mut offset = 0;
            while offset < region.code.len() && self.left > 0 && !self.foreign.contains(&number) {
                if self.marks.is_reached((number, offset)) {
                    offset += 1;
                    continue;
                }
                let at = self.behind_padding((number, offset));
                if at >= region.code.len() || self.marks.is_reached((number, at)) {
                    offset = at;
                } else if self.try_at(region.begin + at as u64) {
                    found = true;
                    offset = at;
                } else {
                    offset = self.behind_way((number, at));
                }
            }
        }
        found
    }

    /// The offset behind the next instruction that does not go on to another, or of the next one that
    /// is known; in what is no code, of the next place where a function may begin.
    fn behind_way(&mut self, (number, offset): Place) -> usize {
        let mut decoder = self.decoder((number, offset));
        let mut at = offset;
        while let Some(it) = self.decode(&mut decoder) {
            at += it.len();
            let goes_on = match Flow::of(&it) {
                Flow::On | Flow::Branch(_) => true,
                Flow::Call(_) => self.may_begin((number, at)).is_none(),
                _ => false,
            };
            if !goes_on || self.marks.is_reached((number, at)) {
                return at;
            }
        }
        let begin = self.regions.get(number).map_or(0, |region| region.begin);
        let next = (begin + at as u64 + 1).next_multiple_of(ALIGNMENT);
        (next - begin) as usize
    }

    /// Tries the frames that one place may have been entered with.
    fn try_at(&mut self, address: u64) -> bool {
        if self.starts.contains(&address) {
            return false; // It was not understood.
        }
        let begin = self.starts.range(..address).next_back().copied().unwrap_or(0);
        let end = self.starts.range(address..).next().copied().unwrap_or(u64::MAX);
        let mut states: Vec<State> = self.behind_calls.get(&address).copied().into_iter().collect();
        for (_, state) in self.jumps.range(begin..end).take(MAX_JUMPS) {
            if states.len() < MAX_TRIED && !states.contains(state) {
                states.push(*state);
            }
        }
        if states.into_iter().any(|state| self.follow(address, state, true).is_ok()) {
            return true;
        }
        // One that never returns cannot prove itself, but somebody has its address.
        let is_function = self.follow(address, State::ENTRY, true).is_ok()
            || self.taken.contains(&address) && self.follow(address, State::ENTRY, false).is_ok();
        if is_function {
            self.starts.insert(address);
        }
        is_function
    }
}
