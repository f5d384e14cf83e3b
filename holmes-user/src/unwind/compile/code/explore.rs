//! Follows code from where functions begin.
//!
//! Must not: recurse, or decode more instructions than it is told.

use std::collections::{BTreeMap, BTreeSet};

use holmes_common::unwind::Row;
use iced_x86::{
    Decoder, DecoderError, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic,
};
use rustc_hash::FxHashSet;

use super::super::MAX_PADDING_BYTES;
use super::super::table::GAP;
use super::flow::Flow;
use super::marks::{Marks, Place, Region};
use super::state::State;

/// Functions of one file. All of musl has 1,900.
pub(super) const MAX_STARTS: usize = 1 << 16;

/// Instructions of one function: about a mebibyte, a quarter of what is read of a file.
pub(super) const MAX_FUNCTION: usize = 1 << 18;

/// Jumps to somewhere that are remembered, and places where functions may begin, each. All of musl
/// has 72 and 270.
const MAX_REMEMBERED: usize = 1 << 16;

/// How often what is left is tried. Each time can reach what the next one needs: a table in an entry
/// of a table.
pub(super) const MAX_PASSES: usize = 8;

/// Compilers begin functions at multiples of this, unless told to save room.
pub(super) const ALIGNMENT: u64 = 16;

/// Regions of code, and what is known of them.
pub(super) struct Code<'a> {
    pub(super) regions: &'a [Region],
    pub(super) marks: Marks,
    /// Where functions begin.
    pub(super) starts: BTreeSet<u64>,
    /// Those that have not been followed.
    pub(super) waiting: Vec<u64>,
    /// Regions with functions of another calling convention: behind a call the stack pointer may be
    /// anywhere.
    pub(super) foreign: FxHashSet<usize>,
    /// Those that never return.
    pub(super) endless: FxHashSet<u64>,
    /// Where the program begins.
    program: u64,
    /// Where the next function may begin is followed with the others.
    all_are_named: bool,
    /// What is known at each jump to somewhere.
    pub(super) jumps: BTreeMap<u64, State>,
    /// What is known where a call returns to, or the next function begins.
    pub(super) behind_calls: BTreeMap<u64, State>,
    /// Where addresses point that are computed, and functions may begin.
    pub(super) taken: FxHashSet<u64>,
    /// Instructions that may still be decoded.
    pub(super) left: u64,
    pub(super) factory: InstructionInfoFactory,
}

/// What is followed.
struct Walk {
    /// What is not in a function that is known to begin there: it has to prove itself.
    is_guess: bool,
    /// It met a return, or known code, with the right frame.
    is_proven: bool,
    /// Instructions that it may still have.
    left: usize,
    work: Vec<(u64, State)>,
    jumps: Vec<(u64, State)>,
    behind_calls: Vec<(u64, State)>,
    calls: Vec<u64>,
    taken: Vec<u64>,
}

/// It was not understood: what was found is worth nothing.
pub(super) struct Contradiction;

impl<'a> Code<'a> {
    /// `instructions` may be decoded at most. `regions` are by address; the program begins at
    /// `program`.
    pub(super) fn new(regions: &'a [Region], program: u64, instructions: u64) -> Self {
        let mut code = Self {
            regions,
            marks: Marks::new(regions),
            starts: BTreeSet::new(),
            waiting: Vec::new(),
            foreign: FxHashSet::default(),
            endless: FxHashSet::default(),
            program,
            all_are_named: false,
            jumps: BTreeMap::new(),
            behind_calls: BTreeMap::new(),
            taken: FxHashSet::default(),
            left: instructions,
            factory: InstructionInfoFactory::new(),
        };
        code.add_start(program);
        code
    }

    /// A function begins there. `false` if there is no room for more.
    pub(super) fn add_start(&mut self, address: u64) -> bool {
        if self.place(address).is_some() && self.starts.insert(address) {
            self.waiting.push(address);
        }
        self.starts.len() < MAX_STARTS
    }

    /// All functions have been added, but for parts of them.
    pub(super) fn all_are_named(&mut self) {
        self.all_are_named = true;
    }

    pub(super) fn place(&self, address: u64) -> Option<Place> {
        let region =
            self.regions.partition_point(|region| region.begin <= address).checked_sub(1)?;
        let found = self.regions.get(region)?;
        let offset = usize::try_from(address - found.begin).ok()?;
        let is_known = offset < found.code.len() && !self.foreign.contains(&region);
        is_known.then_some((region, offset))
    }

    pub(super) fn decoder(&self, (region, offset): Place) -> Decoder<'a> {
        let code = self.regions.get(region).and_then(|region| region.code.get(offset..));
        let begin = self.regions.get(region).map_or(0, |region| region.begin);
        Decoder::with_ip(64, code.unwrap_or_default(), begin + offset as u64, DecoderOptions::NONE)
    }

    /// The next instruction; `None` if there is none, or no more is allowed.
    pub(super) fn decode(&mut self, decoder: &mut Decoder<'a>) -> Option<Instruction> {
        self.left = self.left.checked_sub(1)?;
        let it = decoder.decode();
        (!it.is_invalid()).then_some(it)
    }

    /// Finds out what can be.
    pub(super) fn explore(&mut self) {
        self.find_starts();
        self.find_endless();
        let mut is_tried = true;
        for _ in 0..MAX_PASSES {
            while let Some(start) = self.waiting.pop() {
                self.function(start);
            }
            if !is_tried {
                break;
            }
            is_tried = self.try_what_is_left();
        }
    }

    /// Follows a function that begins there.
    fn function(&mut self, begin: u64) {
        let state = if begin == self.program { State::PROGRAM } else { State::ENTRY };
        // One that is not understood has no rules.
        let _ = self.follow(begin, state, false);
    }

    /// Follows code from a place on, and believes it if nothing contradicts it.
    pub(super) fn follow(
        &mut self,
        begin: u64,
        state: State,
        is_guess: bool,
    ) -> Result<(), Contradiction> {
        let mut walk = Walk {
            is_guess,
            is_proven: false,
            left: MAX_FUNCTION,
            work: vec![(begin, state)],
            jumps: Vec::new(),
            behind_calls: Vec::new(),
            calls: Vec::new(),
            taken: Vec::new(),
        };
        let mut result = Ok(());
        let mut is_begin = true;
        while result.is_ok()
            && let Some((address, state)) = walk.work.pop()
        {
            result = if self.starts.contains(&address) && !is_begin {
                walk.leave(state)
            } else {
                self.run(address, state, &mut walk)
            };
            is_begin = false;
        }
        if result.is_err() || (is_guess && !walk.is_proven) {
            self.marks.forget();
            return Err(Contradiction);
        }
        self.marks.settle();
        let room = |len: usize| MAX_REMEMBERED.saturating_sub(len);
        self.jumps.extend(walk.jumps.into_iter().take(room(self.jumps.len())));
        self.behind_calls.extend(walk.behind_calls.into_iter().take(room(self.behind_calls.len())));
        self.taken.extend(walk.taken.into_iter().take(room(self.taken.len())));
        for called in walk.calls {
            let is_reached = self.place(called).is_some_and(|place| self.marks.is_reached(place));
            if !is_reached && self.starts.len() < MAX_STARTS {
                self.add_start(called);
            }
        }
        Ok(())
    }

    /// Follows instructions one after the other.
    fn run(
        &mut self,
        address: u64,
        mut state: State,
        walk: &mut Walk,
    ) -> Result<(), Contradiction> {
        // Code that is described, or none.
        let Some(mut place) = self.place(address) else { return Ok(()) };
        let next_start = self.starts.range(address + 1..).next().copied();
        let mut decoder = self.decoder(place);
        loop {
            if Some(decoder.ip()) == next_start || !decoder.can_decode() {
                return Ok(());
            }
            if !self.arrive(place, &mut state, walk)? {
                return Ok(());
            }
            walk.left = walk.left.checked_sub(1).ok_or(Contradiction)?;
            let it = match self.decode(&mut decoder) {
                Some(it) => it,
                // It goes on in what is described.
                None if decoder.last_error() == DecoderError::NoMoreBytes => return Ok(()),
                None => return Err(Contradiction),
            };
            if !self.marks.cover(place, it.len()) && walk.is_guess {
                return Err(Contradiction);
            }
            place.1 += it.len();
            match Flow::of(&it) {
                Flow::On => walk.taken.extend(taken(&it)),
                Flow::Call(called) => {
                    walk.calls.extend(called);
                    if called.is_some_and(|called| self.endless.contains(&called)) {
                        return Ok(());
                    }
                    if !self.all_are_named
                        && let Some(next) = self.may_begin(place)
                    {
                        walk.behind_calls.push((next, state));
                        return Ok(());
                    }
                }
                Flow::Branch(target) => walk.work.push((target, state)),
                Flow::Jump(target) => {
                    walk.work.push((target, state));
                    return Ok(());
                }
                Flow::Elsewhere => {
                    walk.jumps.push((it.ip(), state));
                    return Ok(());
                }
                Flow::Return => return walk.leave(state),
                Flow::ReturnElsewise => {
                    // One that was only tried may be no code at all.
                    if !walk.is_guess || state.is_left() {
                        self.foreign.insert(place.0);
                    }
                    return Err(Contradiction);
                }
                Flow::End => return Ok(()),
            }
            state.pass(&it, &mut self.factory);
        }
    }

    /// Comes to an instruction with a frame; whether there is something to find out behind it.
    fn arrive(
        &mut self,
        place: Place,
        state: &mut State,
        walk: &mut Walk,
    ) -> Result<bool, Contradiction> {
        if walk.is_guess && self.marks.is_inside(place) {
            return Err(Contradiction);
        }
        if let Some(known) = self.marks.state(place) {
            let met = known.met(state).ok_or(Contradiction)?;
            walk.is_proven |= self.marks.is_settled(place) && met.has_stack_pointer();
            if met == known {
                return Ok(false);
            }
            *state = met;
        }
        if self.marks.put(place, *state) { Ok(true) } else { Err(Contradiction) }
    }

    /// Hands on what holds where, by address.
    pub(super) fn rules(&mut self, mut found: impl FnMut(u64, u64, Row)) {
        let regions = self.regions;
        for (number, region) in regions.iter().enumerate() {
            if self.foreign.contains(&number) {
                continue;
            }
            let mut current = (0, GAP);
            for offset in 0..=region.code.len() {
                let place = (number, offset);
                let is_end = offset == region.code.len();
                if !is_end && self.marks.is_inside(place) {
                    continue;
                }
                let row = self.marks.state(place).map_or(GAP, |state| state.row());
                let (begin, before) = current;
                if row == before && !is_end {
                    continue;
                }
                // Between functions that lie close their rules go on.
                let is_short = ((offset - begin) as u64) < MAX_PADDING_BYTES;
                if before != GAP || (is_short && self.behind_padding((number, begin)) < offset) {
                    found(region.begin + begin as u64, region.begin + offset as u64, before);
                }
                current = (offset, row);
            }
        }
    }
}

/// The address that an instruction computes, if a function may begin there.
fn taken(it: &Instruction) -> Option<u64> {
    let is_code = it.mnemonic() == Mnemonic::Lea && it.is_ip_rel_memory_operand();
    let address = it.ip_rel_memory_address();
    (is_code && address.is_multiple_of(ALIGNMENT)).then_some(address)
}

impl Walk {
    /// Returns, or goes to another function, with a frame.
    fn leave(&mut self, state: State) -> Result<(), Contradiction> {
        self.is_proven |= state.is_left();
        if state.cannot_leave() { Err(Contradiction) } else { Ok(()) }
    }
}
