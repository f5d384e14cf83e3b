//! How to get from a Go function to its caller, as plain rows for whoever walks stacks.
//!
//! Format: the `pcsp` tables, and what `runtime.(*unwinder)` does with functions that change stacks.
//! x86-64 only: on other machines Go keeps return addresses elsewhere.
//!
//! Where Go's own traceback jumps from a thread's system stack to the goroutine's with help of the
//! runtime's data, frame pointers lead there too: functions that change stacks push the frame
//! pointer first, and leave it alone.
//!
//! Must not: make more rows than the caller asked for.

use super::super::bytes::BinaryError;
use super::GoTable;
use super::function::GoFunction;

/// A larger frame is a malformed table's: Go's stacks end at 1 GB, and its compiler refuses frames
/// from there on.
const MAX_FRAME_BYTES: i32 = 1 << 30;

const OTHER_MACHINE: BinaryError = BinaryError::Malformed("Go code of another machine than x86-64");

/// How to find the caller's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRule {
    /// The caller's stack pointer is `cfa` bytes above the present one; the return address is 8
    /// bytes below it.
    StackPointer {
        /// In bytes.
        cfa: u32,
        /// The caller's frame pointer is stored 16 bytes below its stack pointer; otherwise it has
        /// not been changed.
        saves_frame_pointer: bool,
    },
    /// By the frame pointer: the stack pointer may be on another stack, or nothing is known.
    FramePointer,
    /// The outermost function of its stack, or one that has left its stack for good.
    Stop,
    /// What a signal's handler returns to: the interrupted registers are on the stack.
    Signal,
    /// No Go code.
    Outside,
}

/// A rule, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// First address, as linked; it holds up to the next row's.
    pub address: u64,
    /// What holds there.
    pub rule: FrameRule,
}

/// What became of a table's functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Rows made.
    pub rows: usize,
    /// Functions whose own table is malformed: they are left to the frame pointer.
    pub malformed: u32,
    /// Functions left out because there were enough rows.
    pub left_out: u32,
}

/// Functions that need another rule than the stack pointer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Continues on another stack with its own frame pointer, once it has a frame.
    ChangesStack,
    Stop,
    Signal,
}

impl GoTable<'_> {
    /// Gives the rows of all functions to `see`, in the order of addresses, without equal
    /// neighbours; at most `max_rows`. The last one is [`FrameRule::Outside`].
    ///
    /// # Errors
    /// The file cannot be read, the program is for another machine, or the array of functions is
    /// malformed.
    pub fn frame_rows(
        &mut self,
        max_rows: usize,
        mut see: impl FnMut(FrameRow),
    ) -> Result<FrameCounts, BinaryError> {
        if self.header.quantum != 1 {
            return Err(OTHER_MACHINE);
        }
        let mut counts = FrameCounts::default();
        let mut last = FrameRule::Outside;
        let mut end = 0;
        let mut own = Vec::new();
        for index in 0..self.len() {
            let function = self.function(index)?;
            if function.entry < end {
                return Err(BinaryError::Malformed("Go's functions are not in order"));
            }
            end = function.end;
            own.clear();
            if self.rows_of(&function, &mut own).is_err() {
                counts.malformed += 1;
                own.clear();
                own.push(FrameRow { address: function.entry, rule: FrameRule::FramePointer });
            }
            // One is kept for the end.
            if counts.rows + own.len() >= max_rows {
                counts.left_out = self.len() - index;
                end = function.entry;
                break;
            }
            for row in own.drain(..).filter(|row| row.address < function.end) {
                if row.rule != last {
                    last = row.rule;
                    counts.rows += 1;
                    see(row);
                }
            }
        }
        if counts.rows > 0 {
            counts.rows += 1;
            see(FrameRow { address: end, rule: FrameRule::Outside });
        }
        Ok(counts)
    }

    /// How far the caller's stack pointer is above the present one at an address in `function`, in bytes,
    /// on one and the same goroutine's stack; the return address is 8 bytes below it. `None` for the
    /// outermost function, and for code that Go's tables do not describe.
    ///
    /// Also of functions that go on on another stack: what they have left on this one is laid out as their
    /// table says, for Go's own tracebacks.
    ///
    /// # Errors
    /// The file cannot be read, the program is for another machine, or the function's table is
    /// malformed.
    pub fn goroutine_frame(
        &mut self,
        function: &GoFunction,
        address: u64,
    ) -> Result<Option<u32>, BinaryError> {
        if self.header.quantum != 1 {
            return Err(OTHER_MACHINE);
        }
        if function.is_top || function.sp == 0 {
            return Ok(None);
        }
        let delta = self.value(function, function.sp, address)?;
        let sound = delta.filter(|delta| (0..MAX_FRAME_BYTES).contains(delta));
        Ok(sound.map(|delta| delta.unsigned_abs() + 8))
    }

    /// The rows of one function; neighbours may be equal.
    fn rows_of(
        &mut self,
        function: &GoFunction,
        rows: &mut Vec<FrameRow>,
    ) -> Result<(), BinaryError> {
        let name = self.name(function).unwrap_or_default();
        let kind = kind(&name, function);
        let only = match kind {
            Kind::Stop => Some(FrameRule::Stop),
            Kind::Signal => Some(FrameRule::Signal),
            // C code that Go's linker took in.
            _ if function.sp == 0 => Some(FrameRule::FramePointer),
            _ => None,
        };
        if let Some(rule) = only {
            rows.push(FrameRow { address: function.entry, rule });
            return Ok(());
        }
        let mut values = self.sp_deltas(function);
        while let Some((range, delta)) = values.step()? {
            let is_sound = (0..MAX_FRAME_BYTES).contains(&delta);
            let rule = if is_sound && (kind == Kind::Plain || delta == 0) {
                FrameRule::StackPointer {
                    // 8 for the return address.
                    cfa: delta.unsigned_abs() + 8,
                    // Pushed first wherever there is a frame, in Go since 1.7 and in assembly.
                    saves_frame_pointer: delta > 0,
                }
            } else {
                FrameRule::FramePointer
            };
            if rows.last().is_none_or(|last| last.rule != rule) {
                rows.push(FrameRow { address: range.start, rule });
            }
        }
        // After the last instruction is only padding, and an empty table tells nothing.
        if rows.is_empty() {
            rows.push(FrameRow { address: function.entry, rule: FrameRule::FramePointer });
        }
        Ok(())
    }
}

/// By name where there is no flag: numbers of special functions differ by version, their names
/// hardly.
fn kind(name: &str, function: &GoFunction) -> Kind {
    match name {
        // The outermost for Go; its caller is the trampoline of the kernel's signal frame.
        "runtime.sigtramp" | "runtime.cgoSigtramp" => Kind::Plain,
        "runtime.sigreturn" | "runtime.sigreturn__sigaction" => Kind::Signal,
        // They never return: they go on elsewhere, and clear the frame pointer.
        "runtime.mcall"
        | "runtime.gogo"
        | "gogo"
        | "runtime.morestack"
        | "runtime.switchToCrashStack0" => Kind::Stop,
        "runtime.goexit" | "runtime.mstart" | "runtime.rt0_go" => Kind::Stop,
        "runtime.systemstack"
        | "runtime.asmcgocall"
        | "runtime.asmcgocall_no_g"
        | "runtime.cgocallback"
        | "runtime.cgocallback_gofunc"
        | "runtime.nanotime1"
        | "runtime.walltime"
        | "runtime.walltime1"
        | "runtime.vgetrandom1"
        | "time.now" => Kind::ChangesStack,
        _ if function.is_top => Kind::Stop,
        _ if function.writes_sp => Kind::ChangesStack,
        _ => Kind::Plain,
    }
}
