//! What has been found out about each byte of code.
//!
//! Must not: decode.

use rustc_hash::FxHashMap;

use super::state::State;

/// Code that nothing describes.
pub(super) struct Region {
    /// Address of its first byte.
    pub(super) begin: u64,
    pub(super) code: Vec<u8>,
}

/// A byte: the region's number, and the offset in it.
pub(super) type Place = (usize, usize);

/// Nothing is known of the byte.
const UNREACHED: u16 = 0;
/// It belongs to the instruction before.
const INSIDE: u16 = 1;
/// From here on numbers are of states, at the first byte of an instruction.
const FIRST_STATE: u16 = 2;
/// Added to a state that is believed.
const SETTLED: u16 = 0x8000;
/// Different states in one file. All of musl has 720, without symbols.
const MAX_STATES: usize = 0x7000;

/// A mark for each byte of some regions.
pub(super) struct Marks {
    marks: Vec<Vec<u16>>,
    states: Vec<State>,
    numbers: FxHashMap<State, u16>,
    /// What the marks were that are not settled, in the order in which they were set.
    before: Vec<(Place, u16)>,
}

impl Marks {
    pub(super) fn new(regions: &[Region]) -> Self {
        Self {
            marks: regions.iter().map(|region| vec![UNREACHED; region.code.len()]).collect(),
            states: Vec::new(),
            numbers: FxHashMap::default(),
            before: Vec::new(),
        }
    }

    fn mark(&self, (region, offset): Place) -> u16 {
        self.marks.get(region).and_then(|marks| marks.get(offset)).copied().unwrap_or(UNREACHED)
    }

    fn set(&mut self, (region, offset): Place, mark: u16) {
        if let Some(at) = self.marks.get_mut(region).and_then(|marks| marks.get_mut(offset)) {
            *at = mark;
        }
    }

    /// Whether an instruction has been seen there.
    pub(super) fn is_reached(&self, place: Place) -> bool {
        self.mark(place) != UNREACHED
    }

    /// Whether it is behind the first byte of an instruction.
    pub(super) fn is_inside(&self, place: Place) -> bool {
        self.mark(place) == INSIDE
    }

    /// An instruction has been seen there.
    pub(super) fn see(&mut self, place: Place) {
        self.set(place, INSIDE);
    }

    /// What is known before the instruction that begins there.
    pub(super) fn state(&self, place: Place) -> Option<State> {
        let number = (self.mark(place) & !SETTLED).checked_sub(FIRST_STATE)?;
        self.states.get(usize::from(number)).copied()
    }

    /// Whether that is believed.
    pub(super) fn is_settled(&self, place: Place) -> bool {
        self.mark(place) & SETTLED != 0
    }

    /// Sets it for an instruction; `false` if there is no room.
    pub(super) fn put(&mut self, place: Place, state: State) -> bool {
        let number = match self.numbers.get(&state) {
            Some(number) => *number,
            None if self.states.len() >= MAX_STATES => return false,
            None => {
                let number = self.states.len() as u16;
                self.states.push(state);
                self.numbers.insert(state, number);
                number
            }
        };
        self.before.push((place, self.mark(place)));
        self.set(place, FIRST_STATE + number);
        true
    }

    /// The bytes behind an instruction's first belong to it; `false` if one of them begins another.
    pub(super) fn cover(&mut self, (region, offset): Place, len: usize) -> bool {
        let mut alone = true;
        for at in offset + 1..offset + len {
            match self.mark((region, at)) {
                UNREACHED => self.set((region, at), INSIDE),
                INSIDE => {}
                _ => alone = false,
            }
        }
        alone
    }

    /// Believes what has been put since the last time.
    pub(super) fn settle(&mut self) {
        for (place, _) in std::mem::take(&mut self.before) {
            self.set(place, self.mark(place) | SETTLED);
        }
    }

    /// Forgets what has been put since the last time.
    pub(super) fn forget(&mut self) {
        while let Some(((region, offset), mark)) = self.before.pop() {
            self.set((region, offset), mark);
            let mut at = offset + 1;
            while mark == UNREACHED && self.is_inside((region, at)) {
                self.set((region, at), UNREACHED);
                at += 1;
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.before.clear();
        self.marks.iter_mut().for_each(|marks| marks.fill(UNREACHED));
    }
}
