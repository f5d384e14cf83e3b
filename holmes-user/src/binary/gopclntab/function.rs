//! The functions of a table and their values by program counter.
//!
//! Format: `runtime.functab`, `runtime._func` and `runtime.step`.
//!
//! Must not: loop longer than its bounds say.

use std::ops::Range;

use super::super::bytes::BinaryError;
use super::GoTable;
use super::header::Version;

/// Steps of one table of values: a step is at least one instruction. Functions that are generated,
/// such as the initialisers of large tables, reach some ten thousand.
const MAX_STEPS: u32 = 1 << 18;
/// Tables of values or of data that one function has; there are less than ten kinds.
const MAX_TABLES: u32 = 64;

/// Functions looked at for one name, some 100 ms of work. Large programs have some hundred thousand, the
/// runtime's among the first.
const MAX_LOOKED_AT: u32 = 1 << 19;

const MALFORMED: BinaryError = BinaryError::Malformed("Go's function table contradicts itself");

/// One function of a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoFunction {
    /// Its number: functions are sorted by address.
    pub index: u32,
    /// Its first address, as linked.
    pub entry: u64,
    /// The address behind its last, where the next function begins.
    pub end: u64,
    /// `FuncID`: the number of a function that the runtime treats in its own way, which differs by
    /// version; 0 for others.
    pub id: u8,
    /// `FuncFlag`: whether it is the outermost of its stack. Known since Go 1.17.
    pub is_top: bool,
    /// `FuncFlag`: whether it writes the stack pointer in a way that its table does not tell.
    pub writes_sp: bool,
    /// Whether the table has lines for it. C functions that Go's own linker took in have none.
    pub has_lines: bool,
    pub(super) name: u32,
    pub(super) sp: u32,
    pub(super) file: u32,
    pub(super) line: u32,
    pub(super) unit: u32,
    /// Offset in the file of its list of tables of values, and their number.
    pub(super) tables: (u64, u32),
    /// Offset in the file of its list of data, and their number.
    pub(super) data: (u64, u32),
}

impl<'a> GoTable<'a> {
    /// How many functions there are.
    pub const fn len(&self) -> u32 {
        self.header.functions as u32
    }

    /// Whether there is no function: a table that was found has some.
    pub const fn is_empty(&self) -> bool {
        self.header.functions == 0
    }

    /// The function an address lies in, as linked; `None` outside Go's code.
    ///
    /// # Errors
    /// The file cannot be read, or the table is malformed there.
    pub fn function_at(&mut self, address: u64) -> Result<Option<GoFunction>, BinaryError> {
        let Some(wanted) = address.checked_sub(self.text) else { return Ok(None) };
        // The last entry that is not above the address.
        let (mut low, mut high) = (0, self.header.functions);
        if wanted < self.entry(0)? || wanted >= self.entry(high)? {
            return Ok(None);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.entry(middle)? <= wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.function(low as u32).map(Some)
    }

    /// A function by its number.
    ///
    /// # Errors
    /// There is none, the file cannot be read, or the table is malformed there.
    pub fn function(&mut self, index: u32) -> Result<GoFunction, BinaryError> {
        let number = u64::from(index);
        if number >= self.header.functions {
            return Err(MALFORMED);
        }
        let entry = self.text.checked_add(self.entry(number)?).ok_or(MALFORMED)?;
        let end = self.text.checked_add(self.entry(number + 1)?).ok_or(MALFORMED)?;
        if end < entry {
            return Err(MALFORMED);
        }
        let half = self.header.sorted_bytes() / 2;
        let at = self.header.sorted + number * self.header.sorted_bytes() + half;
        let offset = self.sorted_number(at)?;
        let record = self.header.records.checked_add(offset).filter(|&at| at < self.header.end);
        let record = record.ok_or(MALFORMED)?;
        // Behind the entry, which is as wide as in the array.
        let mut field = |at: u64| self.pages.u32(record + half + at);
        let (name, sp, file, line) = (field(0)?, field(12)?, field(16)?, field(20)?);
        let tables = field(24)?.min(MAX_TABLES);
        let (unit, last) = match self.header.version {
            Version::Go12 => (0, 28),
            Version::Go116 | Version::Go118 => (field(28)?, 32),
            // The line where the function starts came in between.
            Version::Go120 => (field(28)?, 36),
        };
        let [id, flags, _, data] = field(last)?.to_le_bytes();
        // Before, the last word was laid out in other ways.
        let flags = if self.header.version >= Version::Go116 { flags } else { 0 };
        let list = record + half + last + 4;
        Ok(GoFunction {
            index,
            entry,
            end,
            id,
            is_top: flags & 1 != 0,
            writes_sp: flags & 2 != 0,
            has_lines: line != 0,
            name,
            sp,
            file,
            line,
            unit,
            tables: (list, tables),
            data: (list + 4 * u64::from(tables), u32::from(data).min(MAX_TABLES)),
        })
    }

    /// The first function of this name. Looks at one after the other.
    ///
    /// # Errors
    /// The file cannot be read, or the array of functions is malformed.
    pub fn function_named(&mut self, wanted: &str) -> Result<Option<GoFunction>, BinaryError> {
        for index in 0..self.len().min(MAX_LOOKED_AT) {
            let function = self.function(index)?;
            // One without a name is not the one that is looked for.
            if self.name(&function).is_ok_and(|name| name == wanted) {
                return Ok(Some(function));
            }
        }
        Ok(None)
    }

    /// How far the stack pointer is below where the function was entered, by address, in bytes.
    pub fn sp_deltas<'t>(&'t mut self, function: &GoFunction) -> Values<'t, 'a> {
        Values::new(self, function, function.sp)
    }

    /// The value at an address in one of a function's tables, by its offset among all of them.
    pub(super) fn value(
        &mut self,
        function: &GoFunction,
        table: u32,
        address: u64,
    ) -> Result<Option<i32>, BinaryError> {
        let mut values = Values::new(self, function, table);
        while let Some((range, value)) = values.step()? {
            if address < range.end {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// An entry of the array of functions; the one behind the last is the end of Go's code.
    pub(super) fn entry(&mut self, index: u64) -> Result<u64, BinaryError> {
        self.sorted_number(self.header.sorted + index * self.header.sorted_bytes())
    }

    fn sorted_number(&mut self, at: u64) -> Result<u64, BinaryError> {
        match self.header.sorted_bytes() {
            16 => self.pages.u64(at),
            _ => self.pages.u32(at).map(u64::from),
        }
    }
}

/// Walks the pairs of addresses and value of one table of a function.
#[derive(Debug)]
pub struct Values<'t, 'a> {
    table: &'t mut GoTable<'a>,
    at: u64,
    address: u64,
    end: u64,
    value: i32,
    steps: u32,
}

impl<'t, 'a> Values<'t, 'a> {
    fn new(table: &'t mut GoTable<'a>, function: &GoFunction, offset: u32) -> Self {
        let at = table.header.values + u64::from(offset);
        // Offset 0 stands for a table that is not there.
        let steps = if offset == 0 { MAX_STEPS } else { 0 };
        let (address, end) = (function.entry, function.end);
        Self { table, at, address, end, value: -1, steps }
    }

    /// The next addresses that share a value; `None` at the function's end.
    ///
    /// # Errors
    /// The file cannot be read, or the table is malformed there.
    pub fn step(&mut self) -> Result<Option<(Range<u64>, i32)>, BinaryError> {
        if self.steps >= MAX_STEPS || self.address >= self.end {
            return Ok(None);
        }
        let change = self.number()?;
        // A change of nothing ends the table; as the first one it is a change.
        if change == 0 && self.steps > 0 {
            self.steps = MAX_STEPS;
            return Ok(None);
        }
        self.steps += 1;
        self.table.steps += 1;
        // Zigzag: the sign is the lowest bit.
        let change = (change >> 1) as i32 ^ -((change & 1) as i32);
        self.value = self.value.wrapping_add(change);
        let len = u64::from(self.number()?) * self.table.header.quantum;
        let start = self.address;
        self.address = start.checked_add(len).ok_or(MALFORMED)?.min(self.end);
        Ok(Some((start..self.address, self.value)))
    }

    /// A number of seven bits in each byte, lowest first.
    fn number(&mut self) -> Result<u32, BinaryError> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            if self.at >= self.table.header.end {
                return Err(MALFORMED);
            }
            let byte = self.table.pages.u8(self.at)?;
            self.at += 1;
            number |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(MALFORMED)
    }
}
