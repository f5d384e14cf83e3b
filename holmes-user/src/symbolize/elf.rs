//! Names of places in one ELF file: blazesym's answers about its symbol tables and its debug
//! information.
//!
//! Must not: open anything but the two files it is given, or keep anything of a file for the next
//! one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::demangle::{MAX_NAME_BYTES, demangle};
use super::stats::{DebugSkipped, NamedBy, Unnamed};
use super::table::{Line, Named};

/// Offsets asked for at once: how often the time is looked at, and what is lost at most when the
/// parser does not survive.
const BATCH: usize = 128;
/// Functions inlined into each other at one address; beyond, only the innermost are kept.
const MAX_INLINED: usize = 64;
/// Lines of one answer: the inlined functions and the one they are in.
pub(super) const MAX_LINES: usize = MAX_INLINED + 1;

/// What became of one place.
pub(super) type Answer = Result<(NamedBy, Arc<Named>), Unnamed>;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// After this moment debug information is left out: parsing it is what takes time.
    pub(super) debug: Instant,
    /// After this moment nothing is named any more.
    pub(super) all: Instant,
}

impl Deadlines {
    /// For one of several files: its debug information may take half of the time that is left for
    /// all, so that one of a gigabyte leaves some to the others.
    pub(super) fn share(self) -> Self {
        let now = Instant::now();
        let half = self.debug.saturating_duration_since(now) / 2;
        Self { debug: self.debug.min(now + half), all: self.all }
    }

    /// The same, put off.
    pub(super) fn later(self, by: Duration) -> Self {
        Self { debug: self.debug + by, all: self.all + by }
    }
}

/// The files to ask, as paths that open them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    /// The excerpt, if it has a symbol table.
    pub(super) symbols: Option<&'a Path>,
    /// What holds the debug information: the excerpt, the file itself or a separate debug file.
    pub(super) debug: Option<&'a Path>,
}

/// A place in the file: its offset, and the address that the offset was linked for. Separate debug
/// files know addresses only.
pub(super) type Spot = (u64, u64);

/// What naming says, in this order: answers from debug information, that this is over, answers
/// from the symbol tables for the places behind. Answers are in the order of the places.
#[derive(Debug)]
pub(super) enum Said {
    /// For the next places.
    Answers(Vec<Answer>),
    /// Debug information is done with, or was not used for this reason.
    DebugOver(Option<DebugSkipped>),
}

/// Names places in a file. `say` returns whether to go on.
pub(super) fn name(
    files: Files<'_>,
    spots: &[Spot],
    deadlines: Deadlines,
    say: &mut dyn FnMut(Said) -> bool,
) {
    let mut rest = spots;
    if let Some(debug) = files.debug {
        let ask = || ask_debug(debug, files.symbols, &mut rest, deadlines.debug, say);
        // Unwind safety: `rest` only shrinks by whole answers, and the symbolizer is dropped.
        let skipped = match catch_unwind(AssertUnwindSafe(ask)) {
            Ok(Ok(())) => None,
            Ok(Err(Unnamed::OutOfTime)) => Some(DebugSkipped::OutOfTime),
            Ok(Err(_)) => Some(DebugSkipped::Broken),
            Err(_) => Some(DebugSkipped::Panicked),
        };
        if !say(Said::DebugOver(skipped)) {
            return;
        }
    }
    // What debug information did not get to is left to the symbol tables.
    let ask = || match files.symbols {
        Some(symbols) => ask_symbols(symbols, &mut rest, deadlines.all, say),
        None => Err(Unnamed::NoSymbols),
    };
    // Unwind safety: as above.
    let asked = catch_unwind(AssertUnwindSafe(ask)).unwrap_or(Err(Unnamed::Panicked));
    if let Err(cause) = asked {
        for batch in rest.chunks(BATCH) {
            if !say(Said::Answers(vec![Err(cause); batch.len()])) {
                return;
            }
        }
    }
}

/// Demangling is done here, where its output is bounded; links to further files are not followed.
fn symbolizer() -> Symbolizer {
    const NOWHERE: [&str; 0] = [];
    Symbolizer::builder().enable_demangling(false).set_debug_dirs(Some(NOWHERE)).build()
}

fn source(path: &Path, with_debug: bool) -> Source<'static> {
    let mut elf = Elf::new(path);
    elf.debug_syms = with_debug;
    Source::Elf(elf)
}

fn broken(error: blazesym::Error) -> Unnamed {
    tracing::debug!(%error, "an ELF file cannot be used for naming");
    Unnamed::Broken
}

/// Answers as long as it goes well: `rest` is what is left.
fn ask_debug(
    debug: &Path,
    symbols: Option<&Path>,
    rest: &mut &[Spot],
    deadline: Instant,
    say: &mut dyn FnMut(Said) -> bool,
) -> Result<(), Unnamed> {
    let symbolizer = symbolizer();
    while !rest.is_empty() {
        if Instant::now() >= deadline {
            return Err(Unnamed::OutOfTime);
        }
        let (batch, behind) = rest.split_at(BATCH.min(rest.len()));
        let (offsets, addresses): (Vec<u64>, Vec<u64>) = batch.iter().copied().unzip();
        let input = Input::VirtOffset(&addresses[..]);
        let found = symbolizer.symbolize(&source(debug, true), input).map_err(broken)?;
        let plain = match symbols {
            Some(path) => symbolizer
                .symbolize(&source(path, false), Input::FileOffset(&offsets[..]))
                .map_err(broken)?,
            None => Vec::new(),
        };
        let answers = found.iter().enumerate().map(|(index, symbol)| {
            let plain = plain.get(index);
            let answer = answer(symbol, plain.and_then(Symbolized::as_sym));
            // A separate debug file may lack what the file's own table has.
            answer.or_else(|cause| plain.map_or(Err(cause), |plain| self::answer(plain, None)))
        });
        let answers: Vec<Answer> = answers.collect();
        *rest = behind;
        if !say(Said::Answers(answers)) {
            return Err(Unnamed::OutOfTime);
        }
    }
    Ok(())
}

/// As [`ask_debug`], from the symbol tables.
fn ask_symbols(
    symbols: &Path,
    rest: &mut &[Spot],
    deadline: Instant,
    say: &mut dyn FnMut(Said) -> bool,
) -> Result<(), Unnamed> {
    let symbolizer = symbolizer();
    while !rest.is_empty() {
        if Instant::now() >= deadline {
            return Err(Unnamed::OutOfTime);
        }
        let (batch, behind) = rest.split_at(BATCH.min(rest.len()));
        let offsets: Vec<u64> = batch.iter().map(|&(offset, _)| offset).collect();
        let found = symbolizer
            .symbolize(&source(symbols, false), Input::FileOffset(&offsets[..]))
            .map_err(broken)?;
        let answers = found.iter().map(|symbol| answer(symbol, None)).collect();
        *rest = behind;
        if !say(Said::Answers(answers)) {
            return Err(Unnamed::OutOfTime);
        }
    }
    Ok(())
}
/// `plain` is what the symbol tables alone say.
fn answer(symbol: &Symbolized<'_>, plain: Option<&Sym<'_>>) -> Answer {
    match symbol {
        Symbolized::Sym(symbol) if !symbol.name.is_empty() => {
            let by = if symbol.code_info.is_some() { NamedBy::Dwarf } else { NamedBy::Elf };
            Ok((by, Arc::new(Named { lines: lines(symbol, plain), module: String::new() })))
        }
        _ => Err(Unnamed::NoSymbol),
    }
}

/// blazesym lists inlined functions from the outside in; a table begins with the innermost.
fn lines(symbol: &Sym<'_>, plain: Option<&Sym<'_>>) -> Vec<Line> {
    let inlined = symbol.inlined.iter().rev().take(MAX_INLINED);
    let mut lines: Vec<Line> = inlined
        .filter(|function| !function.name.is_empty())
        .map(|function| line(&function.name, function.code_info.as_ref()))
        .collect();
    let mut outermost = line(&symbol.name, symbol.code_info.as_deref());
    if let Some(plain) = plain.filter(|plain| plain.name != symbol.name) {
        let qualified = demangle(&plain.name);
        if is_qualified(&qualified, &outermost.function) {
            outermost.function = qualified.into();
        }
    }
    lines.push(outermost);
    lines
}

/// Whether `qualified` is `name` with its path. Debug information of the smaller kinds (lines
/// only, as in most release builds) says `run`, and the symbol table `server::worker::run`.
fn is_qualified(qualified: &str, name: &str) -> bool {
    let without_generics = |text: &str| -> String {
        let end = text.find('<').filter(|&at| at > 0).unwrap_or(text.len());
        text[..end].trim_end_matches("::").to_owned()
    };
    let last = |text: &str| text.rsplit("::").next().unwrap_or_default().to_owned();
    let is_closure = |text: &str| text.trim_start_matches('{').starts_with("closure");
    let (function, name) = (last(&without_generics(qualified)), without_generics(name));
    qualified.contains("::") && (function == name || (is_closure(&function) && is_closure(&name)))
}

fn line(name: &str, code: Option<&CodeInfo<'_>>) -> Line {
    let file = code.map(|code| code.to_path().to_string_lossy().into_owned()).unwrap_or_default();
    Line {
        function: demangle(name).into(),
        // No file system has longer paths than that: such a one is no path.
        file: if file.len() <= MAX_NAME_BYTES { file.into() } else { "".into() },
        line: code.and_then(|code| code.line).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_from_the_symbol_table() {
        for (qualified, name, expected) in [
            ("server::worker::run", "run", true),
            ("server::worker::run::<u32>", "run<u32>", true),
            ("server::main::{{closure}}", "{closure#0}", true),
            ("server::worker::rerun", "run", false),
            ("memcpy", "__memcpy_avx", false),
            ("run", "run", false),
            ("server::a", "b", false),
        ] {
            assert_eq!(is_qualified(qualified, name), expected, "{qualified} {name}");
        }
    }
}
