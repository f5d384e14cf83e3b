//! Names of places in one ELF file: blazesym's answers about an excerpt.
//!
//! Must not: give blazesym anything but an excerpt, or keep anything of a file for the next one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::demangle::{MAX_NAME_BYTES, demangle};
use super::excerpt::{DEBUG_DIRECTORY, Excerpt};
use super::stats::{DebugSkipped, NamedBy, Unnamed};
use super::table::{Line, Named};

/// Offsets asked for at once: how often the time is looked at.
const BATCH: usize = 128;
/// Functions inlined into each other at one address; beyond, only the innermost are kept.
const MAX_INLINED: usize = 64;

/// What became of one offset.
pub(super) type Answer = Result<(NamedBy, Arc<Named>), Unnamed>;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// After this moment debug information is left out: parsing it is what takes time.
    pub(super) debug: Instant,
    /// After this moment nothing is named any more.
    pub(super) all: Instant,
}

/// The answers for some offsets in a file, in their order, and why its debug information was not
/// used, if it has any.
pub(super) fn name(
    excerpt: &Excerpt,
    offsets: &[u64],
    deadlines: Deadlines,
) -> (Vec<Answer>, Option<DebugSkipped>) {
    let mut skipped = excerpt.debug_skipped;
    let mut answers = Vec::with_capacity(offsets.len());
    if !excerpt.has_names {
        return (vec![Err(Unnamed::NoSymbols); offsets.len()], skipped);
    }
    if excerpt.has_debug {
        skipped = match ask_guarded(excerpt, offsets, deadlines.debug, true, &mut answers) {
            Ok(()) => skipped,
            Err(Unnamed::Panicked) => Some(DebugSkipped::Panicked),
            Err(Unnamed::OutOfTime) => Some(DebugSkipped::OutOfTime),
            Err(_) => Some(DebugSkipped::Broken),
        };
    }
    // What debug information did not get to is left to the symbol tables.
    let rest = &offsets[answers.len()..];
    if let Err(cause) = ask_guarded(excerpt, rest, deadlines.all, false, &mut answers) {
        answers.resize(offsets.len(), Err(cause));
    }
    (answers, skipped)
}

/// Asks for as many offsets as go well, and says why the rest did not.
fn ask_guarded(
    excerpt: &Excerpt,
    offsets: &[u64],
    deadline: Instant,
    with_debug: bool,
    answers: &mut Vec<Answer>,
) -> Result<(), Unnamed> {
    // Unwind safety: `answers` only grows by whole answers, and the symbolizer is dropped.
    let asked =
        catch_unwind(AssertUnwindSafe(|| ask(excerpt, offsets, deadline, with_debug, answers)));
    asked.unwrap_or(Err(Unnamed::Panicked))
}

fn ask(
    excerpt: &Excerpt,
    offsets: &[u64],
    deadline: Instant,
    with_debug: bool,
    answers: &mut Vec<Answer>,
) -> Result<(), Unnamed> {
    // Demangling is done here, where its output is bounded.
    let symbolizer = Symbolizer::builder()
        .enable_demangling(false)
        .set_debug_dirs(Some([DEBUG_DIRECTORY]))
        .build();
    let source = |with_debug| {
        let mut elf = Elf::new(excerpt.path());
        elf.debug_syms = with_debug;
        Source::Elf(elf)
    };
    let broken = |error| {
        tracing::debug!(%error, with_debug, "an ELF file cannot be used for naming");
        Unnamed::Broken
    };
    for batch in offsets.chunks(BATCH) {
        if Instant::now() >= deadline {
            return Err(Unnamed::OutOfTime);
        }
        let input = Input::FileOffset(batch);
        let symbols = symbolizer.symbolize(&source(with_debug), input).map_err(broken)?;
        if with_debug {
            let plain = symbolizer.symbolize(&source(false), input).map_err(broken)?;
            let pairs = symbols.iter().zip(&plain);
            answers.extend(pairs.map(|(symbol, plain)| answer(symbol, plain.as_sym())));
        } else {
            answers.extend(symbols.iter().map(|symbol| answer(symbol, None)));
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
