//! From what DWARF says of one address to a row, on each processor.
//!
//! Numbers of registers: System V ABI, AMD64 supplement, figure 3.36; DWARF for the Arm 64-bit
//! architecture, section 4.1. Numbers of operations: DWARF 5, section 7.7.1.
//!
//! Must not: approximate. A rule that a row cannot say is [`CfaKind::Unsupported`] or
//! [`BpKind::Lost`].

use gimli::{CfaRule, Register, RegisterRule, UnwindSection, UnwindTableRow, Vendor};
use holmes_common::unwind::{BpKind, CFA_UNIT, CfaKind, LEAF_REGISTER_BITS, Row, leaf_register};

use super::frames::{Reader, Storage};
use crate::binary::{Elf, u16_at};

const OP_DEREF: u8 = 0x06;
const OP_PLUS: u8 = 0x22;
const OP_PLUS_UCONST: u8 = 0x23;
const OP_LIT0: u8 = 0x30;
const OP_LIT8: u8 = 0x38;
const OP_LIT31: u8 = 0x4f;
const OP_BREG0: u8 = 0x70;

/// A linkage table's entry: the CFA is stack pointer + 8, and 8 more if the low four bits of the
/// address are at least `litN`; these bytes are around the `litN`.
const PLT_BEFORE: [u8; 6] = [0x77, 8, 0x80, 0, 0x3f, 0x1a];
const PLT_AFTER: [u8; 4] = [0x2a, 0x33, 0x24, 0x22];

/// Where the return address is, seen from the CFA.
const RETURN_ADDRESS: i64 = -8;

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Arm64,
}

impl Machine {
    /// What a file was built for, if this program runs on the same.
    pub(super) fn of(elf: &Elf) -> Option<Self> {
        // `e_machine`; elf.h: EM_X86_64, EM_AARCH64.
        match u16_at(&elf.header, 18) {
            62 if cfg!(target_arch = "x86_64") => Some(Self::X86_64),
            183 if cfg!(target_arch = "aarch64") => Some(Self::Arm64),
            _ => None,
        }
    }

    pub(super) fn vendor(self) -> Vendor {
        match self {
            Self::X86_64 => Vendor::Default,
            Self::Arm64 => Vendor::AArch64,
        }
    }

    fn stack_pointer(self) -> Register {
        match self {
            Self::X86_64 => Register(7),
            Self::Arm64 => Register(31),
        }
    }

    fn base_pointer(self) -> Register {
        match self {
            Self::X86_64 => Register(6),
            Self::Arm64 => Register(29),
        }
    }

    fn return_address(self) -> Register {
        match self {
            Self::X86_64 => Register(16),
            Self::Arm64 => Register(30),
        }
    }
}

/// The row for an evaluated rule; its address is not set.
pub(super) fn row<'a, S: UnwindSection<Reader<'a>>>(
    machine: Machine,
    section: &S,
    at: &UnwindTableRow<usize, Storage>,
) -> Row {
    let of = |cfa_kind: CfaKind| Row { cfa_kind: cfa_kind as u8, ..Row::default() };
    let return_address = at.register(machine.return_address());
    if return_address == Some(RegisterRule::Undefined) {
        return of(CfaKind::Stop);
    }
    let expression = |expression: &gimli::UnwindExpression<usize>| {
        expression.get(section).map(|expression| expression.0.slice()).unwrap_or_default()
    };
    let bp = base_pointer(machine, at.register(machine.base_pointer()), expression);
    if !follows(machine, return_address, bp) {
        return of(CfaKind::Unsupported);
    }
    let cfa = match at.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let units = offset / CFA_UNIT as i64;
            let whole = units * CFA_UNIT as i64 == *offset;
            let units = u16::try_from(units).ok().filter(|_| whole);
            if *register == machine.stack_pointer() {
                units.map(|units| (CfaKind::StackPointer, units))
            } else if *register == machine.base_pointer() {
                units.map(|units| (CfaKind::BasePointer, units))
            } else {
                units.and_then(|units| of_leaf(machine, *register, units))
            }
        }
        CfaRule::Expression(bytes) => cfa_expression(machine, expression(bytes)),
    };
    let Some((cfa_kind, cfa_offset)) = cfa else { return of(CfaKind::Unsupported) };
    let (bp_kind, bp_offset) = bp;
    Row { pc_low: 0, cfa_kind: cfa_kind as u8, bp_kind: bp_kind as u8, cfa_offset, bp_offset }
}

/// The rule for a register that is known in a leaf only.
fn of_leaf(machine: Machine, register: Register, units: u16) -> Option<(CfaKind, u16)> {
    let fits = register.0 < 1 << LEAF_REGISTER_BITS && units < 1 << (16 - LEAF_REGISTER_BITS);
    // The probes keep no others on arm64.
    (machine == Machine::X86_64 && fits)
        .then(|| (CfaKind::LeafRegister, leaf_register(register.0, units)))
}

/// Whether the return address is where a row implies it.
fn follows(machine: Machine, rule: Option<RegisterRule<usize>>, bp: (BpKind, i16)) -> bool {
    match machine {
        Machine::X86_64 => rule == Some(RegisterRule::Offset(RETURN_ADDRESS)),
        // In the link register while the frame pointer is unchanged, then stored behind it.
        Machine::Arm64 => match (rule, bp) {
            (None | Some(RegisterRule::SameValue), (BpKind::Same, _)) => true,
            (Some(RegisterRule::Offset(offset)), (BpKind::AtCfa, bp)) => {
                offset == i64::from(bp) + 8
            }
            _ => false,
        },
    }
}

fn base_pointer<'a>(
    machine: Machine,
    rule: Option<RegisterRule<usize>>,
    expression: impl Fn(&gimli::UnwindExpression<usize>) -> &'a [u8],
) -> (BpKind, i16) {
    let known = match rule {
        // The ABIs have callees preserve it.
        None | Some(RegisterRule::SameValue) => Some((BpKind::Same, 0)),
        Some(RegisterRule::Offset(offset)) => {
            i16::try_from(offset).ok().map(|offset| (BpKind::AtCfa, offset))
        }
        Some(RegisterRule::Expression(bytes)) => match register_offset(expression(&bytes)) {
            Some((register, offset, [])) if register == machine.base_pointer() => {
                Some((BpKind::AtBasePointer, offset))
            }
            _ => None,
        },
        _ => None,
    };
    known.unwrap_or((BpKind::Lost, 0))
}

fn cfa_expression(machine: Machine, bytes: &[u8]) -> Option<(CfaKind, u16)> {
    if machine == Machine::X86_64
        && let Some([literal @ OP_LIT0..=OP_LIT31, after @ ..]) = bytes.strip_prefix(&PLT_BEFORE)
        && after == PLT_AFTER
    {
        return Some((CfaKind::Plt, u16::from(literal - OP_LIT0)));
    }
    let (register, offset, rest) = register_offset(bytes)?;
    let kind = match rest {
        [OP_DEREF] if register == machine.stack_pointer() => CfaKind::DerefStackPointer,
        [OP_DEREF] if register == machine.base_pointer() => CfaKind::DerefBasePointer,
        [OP_DEREF, OP_PLUS_UCONST, 8] | [OP_DEREF, OP_LIT8, OP_PLUS]
            if register == machine.stack_pointer() =>
        {
            CfaKind::DerefStackPointerPlus8
        }
        _ => return None,
    };
    Some((kind, offset as u16))
}

/// `DW_OP_bregN offset`, and what comes behind.
fn register_offset(bytes: &[u8]) -> Option<(Register, i16, &[u8])> {
    let (&operation, rest) = bytes.split_first()?;
    let register = operation.checked_sub(OP_BREG0).filter(|register| *register < 32)?;
    let (offset, rest) = sleb(rest)?;
    Some((Register(register.into()), offset, rest))
}

/// A signed LEB128 number that fits 16 bits, and what comes behind.
fn sleb(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let mut value = 0_i32;
    for (index, &byte) in bytes.iter().take(3).enumerate() {
        let shift = 7 * index as u32;
        value |= i32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let unused = 32 - shift - 7;
            let value = (value << unused) >> unused;
            return Some((value.try_into().ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_numbers_as_dwarf_writes_them() {
        // DWARF 5, table 7.8.
        let cases: [(&[u8], i16); 6] = [
            (&[2], 2),
            (&[0x7e], -2),
            (&[0xff, 0], 127),
            (&[0x81, 0x7f], -127),
            (&[0x80, 1], 128),
            (&[0x80, 0x7f], -128),
        ];
        for (bytes, value) in cases {
            assert_eq!(sleb(bytes), Some((value, &[][..])));
        }
        assert_eq!(sleb(&[0x80, 0x80, 0x04]), None, "65536");
        assert_eq!(sleb(&[0x80]), None);
    }

    #[test]
    fn the_expressions_that_compilers_and_people_write() {
        let cfa = |bytes: &[u8]| cfa_expression(Machine::X86_64, bytes);
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(cfa(&plt), Some((CfaKind::Plt, 11)));
        assert_eq!(cfa(&[0x76, 0x78, 6]), Some((CfaKind::DerefBasePointer, -8_i16 as u16)));
        assert_eq!(cfa(&[0x77, 0x28, 6]), Some((CfaKind::DerefStackPointer, 40)));
        let plus8 = Some((CfaKind::DerefStackPointerPlus8, 40));
        assert_eq!(cfa(&[0x77, 0x28, 6, 0x23, 8]), plus8);
        assert_eq!(cfa(&[0x77, 0x28, 6, 0x38, 0x22]), plus8);
        assert_eq!(cfa(&[0x76, 0x78, 6, 0x23, 8]), None);
        assert_eq!(cfa(&[0x7a, 0]), None, "another register");
        assert_eq!(cfa(&[]), None);
    }

    #[test]
    fn on_arm64_the_pair_is_stored_together() {
        let follows = |rule, bp| follows(Machine::Arm64, rule, bp);
        assert!(follows(None, (BpKind::Same, 0)));
        assert!(follows(Some(RegisterRule::Offset(-24)), (BpKind::AtCfa, -32)));
        assert!(!follows(Some(RegisterRule::Offset(-8)), (BpKind::AtCfa, -32)));
        assert!(!follows(None, (BpKind::AtCfa, -32)));
    }
}
