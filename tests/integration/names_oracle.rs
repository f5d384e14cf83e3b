//! Functions, files, lines and inlined functions of random addresses, as `addr2line -i` gives them.
//!
//! Some differences are known, all seen with binutils 2.40:
//! - demanglers spell generic arguments and parameters differently: names are compared without;
//! - for padding between functions addr2line gives the one before: only what is inside a function,
//!   by the sizes of the symbol table, is compared;
//! - the innermost function, if it is inlined and has no linkage name (a template over a lambda),
//!   gets the symbol of the function around it: its place is compared, its name is not;
//! - where a function is partly from another file, addr2line may name the unit's own file with a
//!   line that it does not have: the line is compared, the file is not.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, ensure};
use holmes_tests::named_file::{NamedFile, compile, patient_symbolizer, tool};
use holmes_user::symbolize::NamedBy;

/// Addresses looked up in each program.
const ADDRESSES: usize = 2000;

/// One function of an address: its name, file and line.
type Entry = (String, String, u32);

/// The last part of a path, without parameters and generic arguments: `shop::Basket::total(int)`
/// and `total<u64>` are `total`. Closures have no name of their own.
fn plain(name: &str) -> String {
    let mut depth = 0;
    let mut short = String::new();
    for letter in name.replace("->", "").chars() {
        match letter {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth -= 1,
            _ if depth == 0 => short.push(letter),
            _ => {}
        }
    }
    let short = short.trim_end_matches(" const").trim_end_matches("::");
    let last = short.rsplit("::").next().unwrap_or_default().trim();
    // `{closure#0}`, `{{closure}}`, `{lambda(...)#1}`, and what is left of `operator()`.
    let last = last.rsplit(' ').next().unwrap_or_default();
    if last.contains("closure") { "closure".to_owned() } else { last.to_owned() }
}

/// What addr2line says about addresses: one list for each, innermost first.
fn oracle(program: &Path, addresses: &[u64]) -> anyhow::Result<Vec<Vec<Entry>>> {
    let path = program.display().to_string();
    let mut arguments: Vec<String> = ["-a", "-i", "-f", "-C", "-e", &path].map(Into::into).into();
    arguments.extend(addresses.iter().map(|address| format!("{address:#x}")));
    let text = tool("addr2line", &arguments)?;
    let mut answers: Vec<Vec<Entry>> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            answers.push(Vec::new());
            continue;
        }
        let place = lines.next().context("a name without a place")?;
        let place = place.split(" (discriminator").next().unwrap_or_default();
        let (file, number) = place.rsplit_once(':').context("a place without a line")?;
        let entry = (line.to_owned(), file.to_owned(), number.parse().unwrap_or(0));
        answers.last_mut().context("a name before an address")?.push(entry);
    }
    Ok(answers)
}

/// The addresses of the functions in the symbol table.
fn functions(program: &Path) -> anyhow::Result<Vec<Range<u64>>> {
    let text = tool("nm", [OsStr::new("-S"), program.as_os_str()])?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let function = |line: &str| {
        let mut fields = line.split(' ');
        let (start, size) = (number(fields.next()?)?, number(fields.next()?)?);
        "tTwW".contains(fields.next()?).then_some(start..start + size)
    };
    Ok(text.lines().filter_map(function).collect())
}

/// Takes over what addr2line is known to get wrong.
fn excuse(theirs: &mut [Entry], ours: &[Entry]) {
    let around = theirs.last().map(|entry| entry.0.clone());
    let inlined = theirs.len() > 1;
    if let (Some(innermost), Some(own)) = (theirs.first_mut(), ours.first())
        && inlined
        && around.as_ref() == Some(&innermost.0)
    {
        innermost.0.clone_from(&own.0);
    }
    for (their, our) in theirs.iter_mut().zip(ours) {
        let source = std::fs::read_to_string(&their.1).unwrap_or_default();
        if !source.is_empty() && their.2 as usize > source.lines().count() {
            their.1.clone_from(&our.1);
        }
    }
}

/// Compares all random addresses that addr2line knows a line of.
fn agrees(source: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let program = compile(source, &folder.path().join("program"))?;
    let file = NamedFile::open(&program)?;
    let (start, size) = file.text()?;
    // A fixed sequence (Knuth's multiplier): a failure can be looked at again.
    let mut state = 1u64;
    let addresses: Vec<u64> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        start + (state >> 33) % size
    })
    .take(ADDRESSES)
    .collect();
    let ours = file.name(&mut patient_symbolizer()?, &addresses)?;
    let functions = functions(&program)?;
    let (mut compared, mut inlined) = (0, 0);
    let mut differ = Vec::new();
    for ((address, theirs), ours) in
        addresses.iter().zip(oracle(&program, &addresses)?).zip(&ours.lines)
    {
        let known = theirs
            .iter()
            .all(|(name, file, line)| name != "??" && !file.starts_with("??") && *line > 0);
        let inside = functions.iter().any(|function| function.contains(address));
        if !known || !inside {
            continue;
        }
        compared += 1;
        inlined += usize::from(theirs.len() > 2);
        let ours: Vec<Entry> = ours
            .iter()
            .map(|line| (plain(&line.function), line.file.to_string(), line.line))
            .collect();
        let mut theirs: Vec<Entry> =
            theirs.into_iter().map(|(name, file, line)| (plain(&name), file, line)).collect();
        excuse(&mut theirs, &ours);
        if ours != theirs {
            differ.push(format!("{address:#x}: addr2line {theirs:?}, we {ours:?}"));
        }
    }
    ensure!(ours.stats.named(NamedBy::Dwarf) > 0, "{:?}", ours.stats);
    // How many, and that the deep ones are among them: a comparison of nothing proves nothing.
    println!("{source}: {compared} compared, {inlined} of them in at least two inlined functions");
    ensure!(compared > 100 && inlined > 20, "only {compared} and {inlined} compared");
    let shown = differ.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    ensure!(differ.is_empty(), "{} of {compared} differ:\n{shown}", differ.len());
    Ok(())
}

#[test]
fn of_c() -> anyhow::Result<()> {
    agrees("inlined.c")
}

#[test]
fn of_cpp() -> anyhow::Result<()> {
    agrees("inlined.cc")
}

#[test]
fn of_rust() -> anyhow::Result<()> {
    agrees("inlined.rs")
}
