//! The source lines of an address, with the calls that are inlined there.
//!
//! Format: `runtime.inlinedCall`, and how `runtime.inlineUnwinder` follows it.
//!
//! Must not: fail because of a malformed tree: the function itself is known without it.

use super::super::bytes::BinaryError;
use super::GoTable;
use super::function::GoFunction;
use super::header::Version;

/// Calls inlined into each other at one address.
const MAX_INLINED: usize = 64;

/// Steps in tables of values for one address, after which no further inlined call is looked for:
/// some milliseconds. The addresses of real programs take a few hundred.
const MAX_STEPS: u64 = 1 << 20;

/// `PCDATA_InlTreeIndex`: which of a function's tables of values says what is inlined.
const INLINED_AT: u32 = 2;
/// `FUNCDATA_InlTree`: which of a function's data is the tree.
const TREE: u32 = 3;

/// A function at an address, as `runtime.CallersFrames` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoLine {
    /// Its name, with `[...]` for type arguments.
    pub function: String,
    /// Source file; empty where unknown.
    pub file: String,
    /// Source line; 0 where unknown.
    pub line: u32,
}

impl GoTable<'_> {
    /// The functions at an address in `function`, innermost inlined first, the function itself last.
    ///
    /// # Errors
    /// The file cannot be read, or the function's name cannot be had.
    pub fn lines(
        &mut self,
        function: &GoFunction,
        address: u64,
    ) -> Result<Vec<GoLine>, BinaryError> {
        let placed = self.placed_lines(function, address)?;
        Ok(placed.into_iter().map(|(_, line)| line).collect())
    }

    /// As [`GoTable::lines`], each with where it is in the function, as linked: the address itself, or
    /// where the inlined call was made.
    ///
    /// # Errors
    /// As [`GoTable::lines`].
    pub fn placed_lines(
        &mut self,
        function: &GoFunction,
        address: u64,
    ) -> Result<Vec<(u64, GoLine)>, BinaryError> {
        let mut lines = Vec::new();
        let mut at = address;
        let enough = self.steps.saturating_add(MAX_STEPS);
        while lines.len() < MAX_INLINED
            && self.steps < enough
            && let Ok(Some((name, parent))) = self.inlined(function, at)
        {
            lines.push((at, self.line(function, name, at)?));
            at = parent;
        }
        lines.push((at, self.line(function, function.name, at)?));
        Ok(lines)
    }

    /// The name of a function, with `[...]` for type arguments.
    ///
    /// # Errors
    /// The file cannot be read, or the table is malformed there.
    pub fn name(&mut self, function: &GoFunction) -> Result<String, BinaryError> {
        self.name_at(function.name)
    }

    fn name_at(&mut self, name: u32) -> Result<String, BinaryError> {
        let name = self.pages.text(self.header.names + u64::from(name), self.header.end)?;
        if name.is_empty() {
            return Err(BinaryError::Malformed("a Go function without a name"));
        }
        Ok(without_type_arguments(name, self.has_generic_methods))
    }

    fn line(
        &mut self,
        function: &GoFunction,
        name: u32,
        address: u64,
    ) -> Result<GoLine, BinaryError> {
        let line = self.value(function, function.line, address).ok().flatten().unwrap_or(-1);
        let file = self.file(function, address).ok().flatten().unwrap_or_default();
        Ok(GoLine {
            function: self.name_at(name)?,
            // -1 says that nothing is known.
            line: u32::try_from(line).unwrap_or(0),
            file,
        })
    }

    fn file(&mut self, function: &GoFunction, address: u64) -> Result<Option<String>, BinaryError> {
        let number = self.value(function, function.file, address)?;
        let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else {
            return Ok(None);
        };
        let index = u64::from(function.unit) + u64::from(number);
        let header = &self.header;
        let (list, base) = match header.version {
            Version::Go12 => (header.files, header.start),
            _ => (header.units, header.files),
        };
        let offset = self.pages.u32(list + 4 * index)?;
        if offset == u32::MAX {
            return Ok(None);
        }
        self.pages.text(base + u64::from(offset), self.header.end).map(Some)
    }

    /// The name of the call inlined at an address, and where in the function it was made.
    fn inlined(
        &mut self,
        function: &GoFunction,
        address: u64,
    ) -> Result<Option<(u32, u64)>, BinaryError> {
        let Some(base) = self.data else { return Ok(None) };
        let (tables, data) = (function.tables, function.data);
        if tables.1 <= INLINED_AT || data.1 <= TREE {
            return Ok(None);
        }
        let table = self.pages.u32(tables.0 + 4 * u64::from(INLINED_AT))?;
        let tree = self.pages.u32(data.0 + 4 * u64::from(TREE))?;
        let index = self.value(function, table, address)?;
        let Some(index) = index.and_then(|index| u64::try_from(index).ok()) else {
            return Ok(None);
        };
        if tree == u32::MAX {
            return Ok(None);
        }
        let (bytes, name, parent) = match self.header.version {
            Version::Go118 => (20, 12, 16),
            _ => (16, 4, 8),
        };
        let call = base.saturating_add(u64::from(tree)).saturating_add(index * bytes);
        let name = self.pages.u32(call.saturating_add(name))?;
        let parent = u64::from(self.pages.u32(call.saturating_add(parent))?);
        let parent = function.entry.saturating_add(parent);
        let sound = parent < function.end && self.header.names + u64::from(name) < self.header.end;
        Ok(sound.then_some((name, parent)))
    }
}

/// A name as Go's tracebacks and profiles print it: type arguments are a compiler's, not a reader's.
/// Format: `runtime.funcNameForPrint`, which takes all from the first square bracket to the last for them,
/// but where there are `generic_methods`.
fn without_type_arguments(name: String, generic_methods: bool) -> String {
    let (Some(first), Some(last)) = (name.find('['), name.rfind(']')) else { return name };
    let Some(inside) = name.get(first + 1..last) else { return name };
    let short = if generic_methods { of_method(inside) } else { Some("...".to_owned()) };
    match short {
        Some(short) => format!("{}[{short}]{}", &name[..first], &name[last + 1..]),
        None => name,
    }
}

/// What is printed for the text between the first bracket and the last: that of a type and its method is
/// `...].Method[...`. `None` if the brackets are not in pairs.
fn of_method(inside: &str) -> Option<String> {
    let mut depth = 1_u32;
    let mut end = None;
    if inside.contains('[') {
        for (at, byte) in inside.bytes().enumerate() {
            match byte {
                b'[' => depth += 1,
                b']' => depth = depth.checked_sub(1)?,
                _ => continue,
            }
            match end {
                None if depth == 0 => end = Some(at),
                Some(end) if depth == 1 => return Some(format!("...{}...", &inside[end..=at])),
                _ => {}
            }
        }
    }
    (depth == 1).then(|| "...".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_arguments_as_go_leaves_them_out() {
        for (name, before, since) in [
            ("main.main", "main.main", "main.main"),
            ("main.f[int].func1", "main.f[...].func1", "main.f[...].func1"),
            ("main.f[[]int,go.shape.[4]int]", "main.f[...]", "main.f[...]"),
            ("main.(*t[[]int]).g[int].func2", "main.(*t[...].func2", "main.(*t[...]).g[...].func2"),
            ("a.b[c].d[e].f[g].h", "a.b[...].h", "a.b[...].d[...].h"),
            // Not in pairs.
            ("a.b[c]d]", "a.b[...]", "a.b[...]"),
            ("a.b[c]]d[e]", "a.b[...]", "a.b[c]]d[e]"),
            ("a.b[[c]", "a.b[...]", "a.b[[c]"),
            ("a]b[c", "a]b[c", "a]b[c"),
        ] {
            assert_eq!(without_type_arguments(name.to_owned(), false), before);
            assert_eq!(without_type_arguments(name.to_owned(), true), since);
        }
    }
}
