//! A second unwinder, to check the probes' against: framehop, on the copied memory of a stack.
//!
//! framehop evaluates no rule that reads memory, and guesses by frame pointers where it has no rule.
//! Here the former are evaluated by gimli (signal frames, functions that align their stack), and in
//! place of the latter the oracle falls silent, and says why.
//!
//! Must not: share code with the recorder's unwinder, or use what it found.

use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};
use gimli::{
    CfaRule, EvaluationResult, Expression, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindTableRow, Value, X86_64,
};

use crate::images::{Fde, Image, Sections, Slice};
use crate::stack_copies::StackCopy;

/// More than the probes' limit, so that the oracle sees what they leave out.
const MOST_FRAMES: usize = 400;

/// Why the oracle says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// This was the outermost frame.
    Outermost,
    /// What comes next is not in the copied memory.
    BeyondCopy,
    /// The address is in no file: code that was compiled at run time, or no code.
    NoFile,
    /// No rule covers the address.
    NoRule,
    /// The rule needs a register that is in no copy.
    OtherRegister,
    /// `MOST_FRAMES`.
    Limit,
}

/// What the oracle found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// In the form of [`StackCopy::frames`].
    pub frames: Vec<u64>,
    /// Why there are no more.
    pub silence: Silence,
}

/// The oracle of one process.
pub struct Oracle {
    images: Vec<Image>,
    unwinder: UnwinderX86_64<Arc<[u8]>>,
    cache: CacheX86_64,
    context: UnwindContext<usize>,
}

/// Where a walk is.
#[derive(Clone, Copy)]
struct Place {
    ip: u64,
    sp: u64,
    bp: u64,
    /// `ip` is a return address.
    returned: bool,
}

impl Place {
    fn register(&self, register: Register) -> Option<u64> {
        match register {
            X86_64::RA => Some(self.ip),
            X86_64::RSP => Some(self.sp),
            X86_64::RBP => Some(self.bp),
            _ => None,
        }
    }
}

impl Oracle {
    /// Knows the executables of `images`.
    pub fn new(images: Vec<Image>) -> Self {
        let mut unwinder = UnwinderX86_64::new();
        for image in &images {
            unwinder.add_module(module(image));
        }
        Self { images, unwinder, cache: CacheX86_64::new(), context: UnwindContext::new() }
    }

    /// A name for an address: file + address as linked.
    pub fn name(&self, address: u64) -> String {
        let image = self.images.iter().find(|image| (image.start..image.end).contains(&address));
        image.map_or_else(
            || format!("{address:#x}"),
            |image| format!("{}+{:#x}", image.name, address.wrapping_sub(image.bias)),
        )
    }

    /// Unwinds a stack.
    pub fn unwind(&mut self, copy: &StackCopy) -> Answer {
        let mut place = Place { ip: copy.ip, sp: copy.sp, bp: copy.bp, returned: false };
        let mut frames = vec![copy.ip];
        loop {
            if frames.len() >= MOST_FRAMES {
                return Answer { frames, silence: Silence::Limit };
            }
            match self.caller(place, copy) {
                Ok(caller) => place = caller,
                Err(silence) => return Answer { frames, silence },
            }
            frames.push(place.ip.wrapping_add(u64::from(!place.returned)));
        }
    }

    fn caller(&mut self, place: Place, copy: &StackCopy) -> Result<Place, Silence> {
        let pc = place.ip.wrapping_sub(u64::from(place.returned));
        let image = self.images.iter().find(|image| (image.start..image.end).contains(&pc));
        let image = image.ok_or(Silence::NoFile)?;
        let linked = pc.wrapping_sub(image.bias);
        let fde = image.sections().fde(linked).ok_or(Silence::NoRule)?;
        let (section, bases) = (image.sections().frames(), image.sections().bases());
        let row = fde
            .unwind_info_for_address(&section, &bases, &mut self.context, linked)
            .map_err(|_| Silence::NoRule)?;
        let rules = Rules { sections: image.sections(), fde: &fde, row, place, copy };
        if let CfaRule::RegisterAndOffset { register, .. } = row.cfa()
            && place.register(*register).is_none()
        {
            return Err(Silence::OtherRegister);
        }
        if fde.is_signal_trampoline() || rules.cfa_reads_memory()? {
            return rules.caller();
        }
        self.by_framehop(place, copy)
    }

    fn by_framehop(&mut self, place: Place, copy: &StackCopy) -> Result<Place, Silence> {
        let mut registers = UnwindRegsX86_64::new(place.ip, place.sp, place.bp);
        let address = match place.returned {
            true => FrameAddress::from_return_address(place.ip).ok_or(Silence::Outermost)?,
            false => FrameAddress::from_instruction_pointer(place.ip),
        };
        let mut missing = false;
        let mut read = |at: u64| {
            // Below the stack pointer lies what an epilogue has popped: framehop knows.
            missing |= at >= place.sp && copy.word(at).is_none();
            copy.word(at).ok_or(())
        };
        let result =
            self.unwinder.unwind_frame(address, &mut registers, &mut self.cache, &mut read);
        if missing || result.is_err() {
            // Where a rule could not be followed, framehop remembers its guess by frame pointers as
            // the rule of that address, for stacks on which it can be followed, too.
            self.cache = CacheX86_64::new();
        }
        match result {
            _ if missing => Err(Silence::BeyondCopy),
            Ok(Some(ip)) => {
                Ok(Place { ip, sp: registers.sp(), bp: registers.bp(), returned: true })
            }
            Ok(None) => Err(Silence::Outermost),
            Err(framehop::Error::ReturnAddressIsNull) => Err(Silence::Outermost),
            // Not a guess: a rule that contradicts the stack. The comparison ends here.
            Err(_) => Err(Silence::NoRule),
        }
    }
}

fn module(image: &Image) -> Module<Arc<[u8]>> {
    let sections = image.sections();
    let range = |at: u64, bytes: &Arc<[u8]>| Some(at..at + bytes.len() as u64);
    let some = |bytes: &Arc<[u8]>| (!bytes.is_empty()).then(|| Arc::clone(bytes));
    Module::new(
        image.name.clone(),
        image.start..image.end,
        image.bias,
        ExplicitModuleSectionInfo {
            eh_frame_svma: range(sections.eh_frame_at, &sections.eh_frame),
            eh_frame: some(&sections.eh_frame),
            eh_frame_hdr_svma: range(sections.eh_frame_hdr_at, &sections.eh_frame_hdr),
            eh_frame_hdr: some(&sections.eh_frame_hdr),
            ..ExplicitModuleSectionInfo::default()
        },
    )
}

/// A row of the unwind information, evaluated as the standard says: for what framehop leaves out.
struct Rules<'a> {
    sections: &'a Sections,
    fde: &'a Fde<'a>,
    row: &'a UnwindTableRow<usize>,
    place: Place,
    copy: &'a StackCopy,
}

impl Rules<'_> {
    fn expression(&self, expression: &UnwindExpression<usize>) -> Result<(u64, bool), Silence> {
        self.evaluated(expression, None)
    }

    /// The value of an expression, and whether memory was read for it.
    fn evaluated(
        &self,
        expression: &UnwindExpression<usize>,
        initial: Option<u64>,
    ) -> Result<(u64, bool), Silence> {
        let section = self.sections.frames();
        let Expression(code): Expression<Slice<'_>> =
            expression.get(&section).map_err(|_| Silence::NoRule)?;
        let mut evaluation = gimli::Evaluation::new(code, self.fde.cie().encoding());
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut read = false;
        let mut result = evaluation.evaluate();
        loop {
            result = match result {
                Ok(EvaluationResult::Complete) => break,
                Ok(EvaluationResult::RequiresRegister { register, .. }) => {
                    let value = self.place.register(register).ok_or(Silence::OtherRegister)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                Ok(EvaluationResult::RequiresMemory { address, size: 8, .. }) => {
                    read = true;
                    evaluation.resume_with_memory(Value::Generic(self.word(address)?))
                }
                _ => return Err(Silence::NoRule),
            };
        }
        match evaluation.value_result() {
            Some(Value::Generic(value)) => Ok((value, read)),
            _ => Err(Silence::NoRule),
        }
    }

    fn word(&self, address: u64) -> Result<u64, Silence> {
        self.copy.word(address).ok_or(Silence::BeyondCopy)
    }

    fn cfa_reads_memory(&self) -> Result<bool, Silence> {
        match self.row.cfa() {
            CfaRule::Expression(expression) => Ok(self.expression(expression)?.1),
            CfaRule::RegisterAndOffset { .. } => Ok(false),
        }
    }

    fn cfa(&self) -> Result<u64, Silence> {
        match self.row.cfa() {
            CfaRule::Expression(expression) => Ok(self.expression(expression)?.0),
            CfaRule::RegisterAndOffset { register, offset } => {
                let value = self.place.register(*register).ok_or(Silence::OtherRegister)?;
                Ok(value.wrapping_add_signed(*offset))
            }
        }
    }

    /// The caller's value of a register; `same` is its value if no rule says otherwise.
    fn register(&self, register: Register, cfa: u64, same: u64) -> Result<u64, Silence> {
        match self.row.register(register) {
            None | Some(RegisterRule::SameValue) => Ok(same),
            Some(RegisterRule::Offset(offset)) => self.word(cfa.wrapping_add_signed(offset)),
            Some(RegisterRule::ValOffset(offset)) => Ok(cfa.wrapping_add_signed(offset)),
            Some(RegisterRule::Expression(at)) => {
                let (address, _) = self.evaluated(&at, Some(cfa))?;
                self.word(address)
            }
            Some(RegisterRule::ValExpression(value)) => {
                self.evaluated(&value, Some(cfa)).map(|(value, _)| value)
            }
            Some(RegisterRule::Undefined) if register == X86_64::RA => Err(Silence::Outermost),
            _ => Err(Silence::OtherRegister),
        }
    }

    fn caller(&self) -> Result<Place, Silence> {
        let cfa = self.cfa()?;
        let ip = self.register(X86_64::RA, cfa, self.place.ip)?;
        if ip == 0 {
            return Err(Silence::Outermost);
        }
        Ok(Place {
            ip,
            sp: self.register(X86_64::RSP, cfa, cfa)?,
            bp: self.register(X86_64::RBP, cfa, self.place.bp)?,
            // What a signal has interrupted had not called anything.
            returned: !self.fde.is_signal_trampoline(),
        })
    }
}
