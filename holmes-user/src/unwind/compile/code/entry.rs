//! Whether code can be where a function begins.
//!
//! Registers: System V ABI, AMD64 supplement, figure 3.4.
//!
//! Must not: say that it is one.

use iced_x86::{
    Decoder, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::flow::Flow;

/// Instructions that are looked at. What the function is given is used soon, or it calls another.
pub(super) const LOOKED_AT: u64 = 8;

/// What these hold is the caller's: a function reads them only to save them.
const CALLERS: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// Whether it reads what no function is given: registers that are its caller's, or what a call has
/// returned.
pub(super) fn is_begun(decoder: &mut Decoder<'_>, factory: &mut InstructionInfoFactory) -> bool {
    let mut written = Vec::new();
    for it in decoder.iter().take(LOOKED_AT as usize) {
        if it.is_invalid() {
            return false;
        }
        let info = factory.info_options(&it, InstructionInfoOptions::NO_MEMORY_USAGE);
        let registers = || info.used_registers().iter();
        let is_read = |access| {
            let conditional = [OpAccess::CondRead, OpAccess::ReadCondWrite];
            [OpAccess::Read, OpAccess::ReadWrite].contains(&access) || conditional.contains(&access)
        };
        let is_foreign = |register: Register| {
            let whole = register.full_register();
            // In al functions are told how many of their arguments are in vector registers.
            (CALLERS.contains(&whole) || [Register::EAX, Register::RAX].contains(&register))
                && !written.contains(&whole)
        };
        if !saves(&it)
            && registers().any(|used| is_read(used.access()) && is_foreign(used.register()))
        {
            return true;
        }
        if Flow::of(&it) != Flow::On {
            return false;
        }
        written.extend(
            registers()
                .filter(|used| used.access() != OpAccess::Read)
                .map(|used| used.register().full_register()),
        );
    }
    false
}

/// Whether it does nothing but keep a register on the stack.
fn saves(it: &Instruction) -> bool {
    match it.mnemonic() {
        Mnemonic::Push => it.op0_kind() == OpKind::Register,
        Mnemonic::Mov => it.op0_kind() == OpKind::Memory && it.memory_base() == Register::RSP,
        _ => false,
    }
}
