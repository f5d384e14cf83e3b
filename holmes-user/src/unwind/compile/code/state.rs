//! What is known of a frame at an instruction, and what each instruction makes of it.
//!
//! Must not: guess. What an instruction does not say is not known behind it.

use holmes_common::unwind::{BpKind, CFA_UNIT, CfaKind, Row};
use iced_x86::{
    Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess, OpKind,
    Register,
};

/// Where a call leaves the stack pointer: below the CFA by the return address.
const AT_ENTRY: i32 = 8;

/// A word of the stack.
const WORD: i32 = 8;

/// Distances from the CFA that are followed, in bytes: more than a row can say.
const MAX_DISTANCE: i32 = 1 << 20;

/// What is known of a frame. Distances are in bytes, downwards from the CFA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Where the stack pointer is.
    sp: Option<i32>,
    /// Where rbp is, if it points into the frame.
    bp: Option<i32>,
    /// rbp is the caller's.
    bp_is_callers: bool,
    /// Where the caller's rbp is saved.
    saved: Option<i32>,
    /// Nothing has called it.
    outermost: bool,
}

impl State {
    /// At a function's first instruction.
    pub(super) const ENTRY: Self =
        Self { sp: Some(AT_ENTRY), bp: None, bp_is_callers: true, saved: None, outermost: false };

    /// At a program's first instruction: the stack holds its arguments.
    pub(super) const PROGRAM: Self =
        Self { sp: None, bp: None, bp_is_callers: true, saved: None, outermost: true };

    /// Whether the caller's frame is as it was at entry: where functions return, or jump to others.
    pub(super) fn is_left(&self) -> bool {
        self.sp == Some(AT_ENTRY) && self.bp_is_callers
    }

    /// Whether returning, or jumping to another function, would go wrong.
    pub(super) fn cannot_leave(&self) -> bool {
        self.sp.is_some_and(|sp| sp != AT_ENTRY) && !self.outermost
    }

    /// What is known where two ways meet; `None` if they contradict each other.
    pub(super) fn met(&self, other: &Self) -> Option<Self> {
        let contradict = self.sp.zip(other.sp).is_some_and(|(one, other)| one != other);
        if contradict || self.outermost != other.outermost {
            return None;
        }
        let same = |one: Option<i32>, other| if one == other { one } else { None };
        Some(Self {
            sp: same(self.sp, other.sp),
            bp: same(self.bp, other.bp),
            bp_is_callers: self.bp_is_callers && other.bp_is_callers,
            saved: same(self.saved, other.saved),
            outermost: self.outermost,
        })
    }

    /// Whether it says where the stack pointer is.
    pub(super) fn has_stack_pointer(&self) -> bool {
        self.sp.is_some()
    }

    /// How to leave it.
    pub(super) fn row(&self) -> Row {
        let of = |cfa_kind: CfaKind| Row { cfa_kind: cfa_kind as u8, ..Row::default() };
        if self.outermost {
            return of(CfaKind::Stop);
        }
        let units = |distance: Option<i32>| {
            let distance =
                u64::try_from(distance?).ok().filter(|it| it.is_multiple_of(CFA_UNIT))?;
            // At the CFA itself the return address has been popped.
            u16::try_from(distance / CFA_UNIT).ok().filter(|units| *units > 0)
        };
        let by_sp = units(self.sp).map(|units| (CfaKind::StackPointer, units));
        let by_bp = units(self.bp).map(|units| (CfaKind::BasePointer, units));
        // A frame pointer that points at the caller's is for the whole function.
        let is_frame_pointer = self.bp.is_some() && self.bp == self.saved;
        let cfa = if is_frame_pointer { by_bp.or(by_sp) } else { by_sp.or(by_bp) };
        let Some((cfa_kind, cfa_offset)) = cfa else {
            return of(CfaKind::Unsupported);
        };
        let saved = self.saved.and_then(|saved| i16::try_from(-saved).ok());
        let (bp_kind, bp_offset) = match saved {
            _ if self.bp_is_callers => (BpKind::Same, 0),
            Some(saved) => (BpKind::AtCfa, saved),
            None => (BpKind::Lost, 0),
        };
        Row { pc_low: 0, cfa_kind: cfa_kind as u8, bp_kind: bp_kind as u8, cfa_offset, bp_offset }
    }

    /// Goes over an instruction that goes on to the next; a call has returned.
    pub(super) fn pass(&mut self, it: &Instruction, factory: &mut InstructionInfoFactory) {
        let (first, second) = (it.op0_register(), it.op1_register());
        match it.mnemonic() {
            Mnemonic::Call => {}
            Mnemonic::Push | Mnemonic::Pushfq => {
                self.move_sp(self.sp, it.stack_pointer_increment().checked_neg());
                if first == Register::RBP {
                    self.save(self.sp);
                }
            }
            Mnemonic::Pop if first == Register::RBP => {
                self.load(self.sp);
                self.move_sp(self.sp, Some(-WORD));
            }
            Mnemonic::Pop | Mnemonic::Popfq if first != Register::RSP => {
                let sp = self.sp;
                self.writes(it, factory);
                self.move_sp(sp, Some(-it.stack_pointer_increment()));
            }
            Mnemonic::Leave => {
                let frame = self.bp;
                self.load(frame);
                self.move_sp(frame, Some(-WORD));
            }
            Mnemonic::Add | Mnemonic::Sub if first == Register::RSP => {
                let by = it.try_immediate(1).ok().and_then(|by| i32::try_from(by as i64).ok());
                let adds = it.mnemonic() == Mnemonic::Add;
                self.move_sp(
                    self.sp,
                    by.and_then(|by| if adds { by.checked_neg() } else { Some(by) }),
                );
            }
            Mnemonic::Lea if first == Register::RSP => {
                let to = self.memory(it);
                self.move_sp(to, Some(0));
            }
            Mnemonic::Mov if first == Register::RSP => {
                let to = if second == Register::RBP { self.bp } else { None };
                self.move_sp(to, Some(0));
            }
            Mnemonic::Mov if (first, second) == (Register::RBP, Register::RSP) => {
                self.set_bp(self.sp);
            }
            Mnemonic::Lea if first == Register::RBP => self.set_bp(self.memory(it)),
            Mnemonic::Mov if first == Register::RBP && it.op1_kind() == OpKind::Memory => {
                self.load(self.memory(it));
            }
            Mnemonic::Mov if second == Register::RBP && it.op0_kind() == OpKind::Memory => {
                self.save(self.memory(it));
            }
            // What the psABI asks of the outermost frame. Whoever has a caller would have saved its
            // rbp before.
            Mnemonic::Xor
                if first == second
                    && first.full_register() == Register::RBP
                    && self.bp_is_callers
                    && self.saved.is_none() =>
            {
                self.outermost = true;
                self.set_bp(None);
            }
            _ => self.writes(it, factory),
        }
    }

    /// The stack pointer moves from a distance, downwards.
    fn move_sp(&mut self, from: Option<i32>, by: Option<i32>) {
        let moved = from.zip(by).and_then(|(from, by)| from.checked_add(by));
        self.sp = moved.filter(|sp| (0..MAX_DISTANCE).contains(sp));
        // What lies below the stack pointer is nobody's any more.
        if let (Some(sp), Some(saved)) = (self.sp, self.saved)
            && saved > sp
        {
            self.saved = None;
        }
    }

    fn set_bp(&mut self, distance: Option<i32>) {
        self.bp = distance;
        self.bp_is_callers = false;
    }

    /// rbp is stored at a distance.
    fn save(&mut self, at: Option<i32>) {
        if self.bp_is_callers && self.saved.is_none() {
            self.saved = at;
        }
    }

    /// rbp is loaded from a distance.
    fn load(&mut self, from: Option<i32>) {
        self.bp = None;
        self.bp_is_callers = from.is_some() && from == self.saved;
    }

    /// The distance of a memory operand in the frame.
    fn memory(&self, it: &Instruction) -> Option<i32> {
        let base = match it.memory_base() {
            Register::RSP => self.sp,
            Register::RBP => self.bp,
            _ => None,
        };
        if it.memory_index() != Register::None || it.has_segment_prefix() {
            return None;
        }
        let displacement = i32::try_from(it.memory_displacement64() as i64).ok()?;
        base?.checked_sub(displacement)
    }

    /// Forgets the registers that any other instruction writes.
    fn writes(&mut self, it: &Instruction, factory: &mut InstructionInfoFactory) {
        let info = factory.info_options(it, InstructionInfoOptions::NO_MEMORY_USAGE);
        for used in info.used_registers() {
            let written = matches!(
                used.access(),
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            );
            match used.register().full_register() {
                Register::RSP if written => self.sp = None,
                Register::RBP if written => self.set_bp(None),
                _ => {}
            }
        }
    }
}
