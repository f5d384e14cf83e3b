//! Where control goes behind an instruction.
//!
//! Must not: know frames.

use iced_x86::{FlowControl, Instruction, Mnemonic};

/// Where control goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next instruction.
    On,
    /// To the next instruction, when the function here has returned; nobody's if it is not known.
    Call(Option<u64>),
    /// Here.
    Jump(u64),
    /// Here, or to the next instruction.
    Branch(u64),
    /// Somewhere: a table's entry, another function, or what nothing here understands.
    Elsewhere,
    /// To the caller.
    Return,
    /// To the caller, and the arguments are taken from the stack: not as the psABI has it.
    ReturnElsewise,
    /// Nowhere.
    End,
}

impl Flow {
    pub(super) fn of(it: &Instruction) -> Self {
        match it.flow_control() {
            // User space that halts is killed.
            FlowControl::Next if it.mnemonic() == Mnemonic::Hlt => Self::End,
            FlowControl::Next | FlowControl::XbeginXabortXend => Self::On,
            FlowControl::UnconditionalBranch if it.is_jmp_short_or_near() => {
                Self::Jump(it.near_branch_target())
            }
            FlowControl::ConditionalBranch => Self::Branch(it.near_branch_target()),
            FlowControl::IndirectBranch => Self::Elsewhere,
            FlowControl::Return if it.mnemonic() == Mnemonic::Ret => {
                if it.op_count() == 0 {
                    Self::Return
                } else {
                    Self::ReturnElsewise
                }
            }
            // Code asks like this where it is: no function begins there.
            FlowControl::Call if it.is_call_near() && it.near_branch_target() == it.next_ip() => {
                Self::Elsewhere
            }
            FlowControl::Call if it.is_call_near() => Self::Call(Some(it.near_branch_target())),
            FlowControl::IndirectCall => Self::Call(None),
            // System calls count as calls.
            FlowControl::Call => Self::On,
            FlowControl::Interrupt if it.mnemonic() == Mnemonic::Int => Self::On,
            FlowControl::Interrupt | FlowControl::Exception => Self::End,
            _ => Self::Elsewhere,
        }
    }
}
